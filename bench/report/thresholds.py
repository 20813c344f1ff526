"""Thresholds that ``segscale calibrate`` chose: one per protocol, dataset and method, whatever the backbone.

The package carries those of the pocket scenes; a results folder's own come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from segscale.catalogue import shipped_folder
from segscale.errors import UserError
from segscale.files import replaced

from ..tasks.identity import DatasetIdentity

CalibrationSource = Literal["calibrated", "packaged"]


@dataclass(frozen=True)
class Curve:
    """One backbone on the calibration images."""

    weights: str
    """As in the run's identity."""
    dtype: str
    run: str
    """Id of the stored run."""
    miou: tuple[float, ...]
    """In percent, at every threshold."""


@dataclass(frozen=True)
class Calibration:
    """A method's threshold and everything that it follows from."""

    threshold: float
    thresholds: tuple[float, ...]
    mean: tuple[float, ...]
    """Mean of the backbones' curves."""
    images: int
    seed: int
    version: str
    packages: dict[str, str]
    backbones: dict[str, Curve]


@dataclass(frozen=True)
class CalibrationFile:
    """The calibrated methods of one protocol on one dataset."""

    protocol: str
    dataset: str
    split: str
    rule: str
    """How the threshold was chosen, in words."""
    methods: dict[str, Calibration]


class DamagedCalibrationError(UserError):
    """The file holds no calibration."""


_ADAPTER = TypeAdapter(CalibrationFile)


def calibration_path(results: Path, protocol_name: str, dataset_name: str) -> Path:
    """Where the calibration of a protocol on a dataset is stored."""
    return results / "calibration" / f"{protocol_name}-{dataset_name}.json"


def read_calibration(path: Path) -> CalibrationFile | None:
    """Read the file; None where there is none. Raises DamagedCalibrationError for a damaged one."""
    if not path.exists():
        return None
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "see who may read it") from error
    except ValidationError as error:
        raise DamagedCalibrationError(
            f"{path} is damaged", "make it anew with: segscale calibrate --overwrite"
        ) from error


def write_calibration(path: Path, content: CalibrationFile) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(_ADAPTER.dump_json(content, indent=2).decode() + "\n")


def packaged_results() -> Path:
    """The results folder of the pocket twins, whose calibrations come with the package."""
    return shipped_folder("results") / "pocket"


class Thresholds:
    """The calibrated thresholds below one results folder, and those of the package; each file is read once."""

    def __init__(self, results: Path) -> None:
        """Name the folder; nothing is read yet."""
        self._sources: tuple[tuple[Path, CalibrationSource], ...] = (
            (results, "calibrated"),
            (packaged_results(), "packaged"),
        )
        self._files: dict[Path, CalibrationFile | None] = {}

    def calibrated(
        self, protocol_name: str, dataset: DatasetIdentity, method_name: str
    ) -> tuple[float, CalibrationSource] | None:
        """The threshold and where it is stored, None where nothing was calibrated.

        A variant of a dataset takes that of its benchmark where it has none of its own.
        """
        for folder, source in self._sources:
            for name in dict.fromkeys((dataset.name, dataset.benchmark)):
                stored = self._read(calibration_path(folder, protocol_name, name))
                if stored is not None and method_name in stored.methods:
                    return stored.methods[method_name].threshold, source
        return None

    def _read(self, path: Path) -> CalibrationFile | None:
        if path not in self._files:
            self._files[path] = read_calibration(path)
        return self._files[path]
