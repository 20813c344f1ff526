"""The command that evaluates one job, as a user would type it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ..runs.options import RunOptions
from .sweep import Job


@dataclass(frozen=True)
class SweepOptions:
    """Choices of all jobs of a sweep beside their names."""

    run: RunOptions
    data_roots: Mapping[str, str] = field(default_factory=dict)
    """Folders of datasets by their name, instead of the config's."""
    caption_files: Mapping[str, str] = field(default_factory=dict)
    """Caption files by the dataset's name."""

    def of(self, job: Job) -> RunOptions:
        """The options of one job."""
        captions = self.caption_files.get(job.dataset_name)
        return replace(
            self.run,
            seed=job.seed,
            data_root=self.data_roots.get(job.dataset_name),
            captions=None if captions is None else Path(captions),
        )


def run_command(job: Job, options: RunOptions) -> tuple[str, ...]:
    """The words after ``segscale``; the device is left to whoever runs it."""
    names = {
        "--backbone": job.backbone_name,
        "--method": ",".join(job.method_names or ()),
        "--dataset": job.dataset_name,
        "--protocol": job.protocol_name,
    }
    words = [word for option, value in names.items() for word in (option, value)]
    return ("run", *words, *_chosen(options), *_chosen(options.load))


def _chosen(record: object) -> Iterator[str]:
    """Options of the fields that are not as they are by default."""
    default = type(record)()
    for each in fields(record):  # pyright: ignore[reportArgumentType]
        value, option = getattr(record, each.name), f"--{each.name.replace('_', '-')}"
        if value == getattr(default, each.name) or each.name in ("load", "device"):
            continue
        if value is True:
            yield option
        else:
            yield from (option, "all" if value is None else str(value))
