"""The package for Python that starts in the folder of a clone named segscale, and takes the clone for it."""

from pathlib import Path

__path__ = [str(Path(__file__).parent / "segscale"), str(Path(__file__).parent)]
exec(Path(__path__[0], "__init__.py").read_text())
