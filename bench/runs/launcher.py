"""The ranks of a launcher: processes that share one run."""

from __future__ import annotations

import os

RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Of torchrun, srun (not of sbatch, which starts one process whatever the number of tasks) and Open MPI."""


def rank_and_world() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) without a launcher."""
    for rank, world in RANK_VARIABLES:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def is_rank_zero() -> bool:
    """True on rank 0, the only process that prints and writes tables."""
    return rank_and_world()[0] == 0


def local_device(device: str) -> str:
    """``cuda`` is the launcher's GPU for this process, where there is a launcher."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    return f"cuda:{local}" if device == "cuda" and local is not None else device
