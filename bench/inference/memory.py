"""Peak memory of a stretch of work."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFERENCES = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
GIB = 2**30


class PeakMemory:
    """Peak memory since ``reset``: torch's of a GPU, or the kernel's high-water mark of this process.

    Only Linux can reset that mark; elsewhere it is the process's peak so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held = 0

    @property
    def is_limited(self) -> bool:
        """Whether the device has memory of its own, whose free part is known."""
        return self.device.type == "cuda"

    def reset(self) -> None:
        if self.device.type == "cuda":
            gc.collect()  # what is freed later would be missing in ``growth``
            torch.cuda.reset_peak_memory_stats(self.device)
            self._held = torch.cuda.memory_allocated(self.device)
        elif sys.platform == "linux":
            CLEAR_REFERENCES.write_text(RESET_PEAK)

    def read(self) -> int:
        """Bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "linux":
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def growth(self) -> int:
        """Bytes of the peak that were not held at ``reset``."""
        return self.read() - self._held

    def free(self) -> int:
        """Bytes that torch can have of the GPU, those that it keeps and does not use included."""
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + kept
