"""The ranks of a launcher: processes that share one run."""

from __future__ import annotations

import os

from segscale.errors import UserError

RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Of torchrun, srun and Open MPI."""
LOCAL_RANKS = {
    "RANK": "LOCAL_RANK",
    "SLURM_PROCID": "SLURM_LOCALID",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
}
"""Where the same launchers count the processes of one machine."""
BATCH_SCRIPT = {"SLURM_PROCID"}
"""What sbatch sets of them: it starts one process, whatever the number of tasks."""


def rank_and_world() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) without a launcher.

    Raises:
        UserError: For variables that no launcher sets so.
    """
    names = _launcher()
    return (0, 1) if names is None else _checked(*names)


def _launcher() -> tuple[str, str] | None:
    """The variables of the launcher that started this process, if one did."""
    for names in RANK_VARIABLES:
        given = {name for name in names if name in os.environ}
        if given and given != BATCH_SCRIPT:
            return names
    return None


def _checked(rank_name: str, world_name: str) -> tuple[int, int]:
    """The values of two variables that only make sense together."""
    rank, world = os.environ.get(rank_name), os.environ.get(world_name)
    if rank is None or world is None:
        given, missing = (rank_name, world_name) if world is None else (world_name, rank_name)
        raise UserError(f"{given} is set without {missing}", f"set both, or neither: unset {given}")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        problem = f"{rank_name}={rank} {world_name}={world} names no rank"
        hint = f"{rank_name} counts from 0 to {world_name} - 1; alone: unset {rank_name} {world_name}"
        raise UserError(problem, hint)
    return int(rank), int(world)


def is_rank_zero() -> bool:
    """True on rank 0, the only process that prints and writes tables."""
    return rank_and_world()[0] == 0


def local_rank() -> int | None:
    """The place of this process among those of its launcher on this machine; None without a launcher that says it."""
    names = _launcher()
    local = os.environ.get(LOCAL_RANKS[names[0]], "") if names else ""
    return int(local) if local.isdecimal() else None
