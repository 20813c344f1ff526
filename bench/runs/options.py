"""Choices of a run beside its four names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...backbones.loading.options import LoadOptions, check_untrained


@dataclass(frozen=True)
class RunOptions:
    """Choices of a run beside backbone, method, dataset and protocol.

    Raises:
        UserError: For random weights where loaded ones cannot be changed.
    """

    weights: str | None = None
    """Hub id or local folder, instead of the config's."""
    split: str | None = None
    """Instead of the config's."""
    data_root: str | None = None
    """Folder of the dataset, instead of the config's."""
    captions: Path | None = None
    """A caption file, instead of the dataset's own captions."""
    limit: int | None = None
    """Only the first images."""
    save_masks: int | None = 0
    """Of how many of the first images predicted label maps are kept; None: of all."""
    skip_bad: bool = False
    """Whether unusable images are left out and listed."""
    strict: bool = False
    """Whether the first score that is not finite stops the run; otherwise they are counted."""
    backbone_arguments: Mapping[str, object] = field(default_factory=dict)
    """Instead of the config's."""
    seed: int = 0
    """Of the noise."""
    batch: int | None = None
    """Images, or prompts of them, that share a forward at most; None: 1 on a CPU, what fits on a GPU."""
    workers: int | None = None
    """Threads that read images ahead, and as many that count behind; None: none on a CPU, some beside a GPU."""
    text_cache: Path | None = None
    """Folder that keeps encoded prompts."""
    untrained: bool = False
    """Whether the denoiser gets random weights."""
    results: Path = Path("results")
    """Folder that holds ``runs/``."""
    load: LoadOptions = field(default_factory=LoadOptions)

    def __post_init__(self) -> None:
        """Refuse what could not be loaded."""
        check_untrained(self.untrained, self.load)

    @property
    def dataset_arguments(self) -> dict[str, str]:
        """What was chosen of the dataset's constructor."""
        chosen = {"split": self.split, "data_root": self.data_root, "captions": self.captions}
        return {name: str(value) for name, value in chosen.items() if value is not None}
