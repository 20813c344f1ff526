from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segscale.bench.commands.main import main
from segscale.bench.runs.devices import local_device
from segscale.bench.runs.launcher import LOCAL_RANKS, RANK_VARIABLES, is_rank_zero, rank_and_world
from segscale.errors import UserError


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (*RANK_VARIABLES, LOCAL_RANKS.values()):
        for name in names:
            monkeypatch.delenv(name, raising=False)


def launch(monkeypatch: pytest.MonkeyPatch, variables: str) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ("", (0, 1)),
        ("RANK=1 WORLD_SIZE=2", (1, 2)),
        ("SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4", (3, 4)),
        ("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=8", (0, 8)),
        ("SLURM_PROCID=0 SLURM_NTASKS=4", (0, 1)),
        ("RANK=1 WORLD_SIZE=2 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", (1, 2)),
        ("SLURM_PROCID=0 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", (1, 2)),
    ],
)
def test_ranks_of_every_launcher(variables: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, variables)
    assert rank_and_world() == expected
    assert is_rank_zero() == (expected[0] == 0)


SRUN = "SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=3"
MPIRUN = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1"


@pytest.mark.parametrize(
    ("variables", "visible", "expected"),
    [
        ("", 4, "cuda"),
        ("SLURM_PROCID=0 SLURM_LOCALID=0", 4, "cuda"),
        ("RANK=5 WORLD_SIZE=8 LOCAL_RANK=1", 4, "cuda:1"),
        (SRUN, 4, "cuda:3"),
        (SRUN, 1, "cuda:0"),
        (MPIRUN, 2, "cuda:1"),
        (f"SLURM_PROCID=0 SLURM_LOCALID=0 {MPIRUN}", 2, "cuda:1"),
    ],
)
def test_cuda_is_the_gpu_of_the_launcher_that_gives_the_rank(
    variables: str, visible: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(monkeypatch, variables)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert local_device("cuda") == expected
    assert local_device("cpu") == "cpu"


HALF = {
    "RANK=0": "RANK is set without WORLD_SIZE; set both, or neither: unset RANK",
    "WORLD_SIZE=2": "WORLD_SIZE is set without RANK; set both, or neither: unset WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS=2": "SLURM_STEP_NUM_TASKS is set without SLURM_PROCID; set both, or neither",
    "OMPI_COMM_WORLD_RANK=0": "OMPI_COMM_WORLD_RANK is set without OMPI_COMM_WORLD_SIZE; set both, or neither",
}
IMPOSSIBLE = ("5 2", "2 2", "abc 2", "-1 2", "0 -2", "0 0", "1.0 2", " 2")


@pytest.mark.parametrize("variables", HALF)
def test_half_a_pair_is_refused(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, variables)
    with pytest.raises(UserError) as error:
        rank_and_world()
    assert HALF[variables] in str(error.value)


@pytest.mark.parametrize("names", RANK_VARIABLES)
@pytest.mark.parametrize("values", IMPOSSIBLE)
def test_impossible_ranks_are_refused(names: tuple[str, str], values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = dict(zip(names, values.split(" "), strict=True))
    for name, value in pairs.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        rank_and_world()
    problem = " ".join(f"{name}={value}" for name, value in pairs.items())
    hint = f"{names[0]} counts from 0 to {names[1]} - 1; alone: unset {names[0]} {names[1]}"
    assert str(error.value) == f"{problem} names no rank; {hint}"


@pytest.mark.parametrize("command", ["run", "layers pocket-sd3"])
def test_a_command_ends_in_one_line_before_anything_is_stored(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    launch(monkeypatch, "RANK=5 WORLD_SIZE=2")
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--limit", "1", "--results", str(tmp_path)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("segscale: error: RANK=5 WORLD_SIZE=2 names no rank; ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["quirks"], ["modalities", "pocket-sd3"], ["values", "pocket-sd3"]])
def test_an_analysis_of_one_process_refuses_several(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(monkeypatch, "RANK=1 WORLD_SIZE=2")
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"do not share the work of segscale {arguments[0]}; start one" in capsys.readouterr().err
