"""Which GPU is a process's own."""

from __future__ import annotations

from .launcher import local_rank


def local_device(device: str) -> str:
    """``cuda`` is the launcher's GPU for this process, where there is a launcher.

    A launcher may show a process its own GPU alone, which is the first one there.
    """
    local = local_rank()
    if device != "cuda" or local is None:
        return device
    import torch

    return f"cuda:{local % max(torch.cuda.device_count(), 1)}"
