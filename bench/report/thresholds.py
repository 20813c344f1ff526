"""Thresholds that ``segscale calibrate`` chose: one per protocol, dataset and method, whatever the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from segscale.errors import UserError
from segscale.files import replaced


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


_ADAPTER = TypeAdapter(CalibrationFile)


def calibration_path(results: Path, protocol_name: str, dataset_name: str) -> Path:
    """Where the calibration of a protocol on a dataset is stored."""
    return results / "calibration" / f"{protocol_name}-{dataset_name}.json"


def read_calibration(path: Path) -> CalibrationFile | None:
    """Read the file; None where there is none. Raises UserError for a damaged one."""
    if not path.exists():
        return None
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise UserError(f"{path} is damaged", "make it anew with: segscale calibrate") from error


def write_calibration(path: Path, content: CalibrationFile) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(_ADAPTER.dump_json(content, indent=2).decode() + "\n")


class Thresholds:
    """The calibrated thresholds below one results folder; each file is read once."""

    def __init__(self, results: Path) -> None:
        """Name the folder; nothing is read yet."""
        self._results = results
        self._files: dict[Path, CalibrationFile | None] = {}

    def calibrated(self, protocol_name: str, dataset_name: str, method_name: str) -> float | None:
        """The stored threshold, None where nothing was calibrated."""
        path = calibration_path(self._results, protocol_name, dataset_name)
        if path not in self._files:
            self._files[path] = read_calibration(path)
        stored = self._files[path]
        calibration = None if stored is None else stored.methods.get(method_name)
        return None if calibration is None else calibration.threshold
