"""Results in an object store: a local S3 and fsspec's memory hold what a folder would."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import boto3
import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import EndpointConnectionError
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from segscale.bench.commands.main import main
from segscale.bench.generation.backbone_replicates import BackboneReplicates, Conditions, Resampled
from segscale.bench.generation.scaling_files import read_scaling, write_scaling
from segscale.bench.report.files import write_analysis
from segscale.bench.runs import leases, part_files
from segscale.bench.runs.leases import HeldLease, read_leases
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.runs.store import RunStore, find_runs
from segscale.errors import UserError
from segscale.files import replaced
from segscale.places import created, is_remote, place, touch
from segscale.registry import build

from ..soak import stored
from .stored_runs import PLAN, new_run, record

BUCKET = "results"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket of a local server, which the environment names."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "id")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    server.stop()


@pytest.fixture(params=["s3", "memory"])
def results(request: pytest.FixtureRequest, s3: str) -> Path:
    """An empty place in either store."""
    return place(f"{s3 if request.param == 's3' else 'memory://' + BUCKET}/{token_hex(4)}")


def test_a_path_is_a_path_and_a_url_a_place_with_the_same_name(results: Path) -> None:
    assert place("some/folder") == Path("some/folder")
    assert place("file:///some/folder") == Path("/some/folder")
    assert not is_remote(place("some/folder"))
    assert is_remote(results / "runs")
    assert str(place(str(results / "runs"))) == str(results / "runs")


def test_of_many_writers_one_creates(results: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = [*pool.map(lambda number: created(results / "claim", str(number).encode()), range(8))]
    assert sum(outcomes) == 1
    assert (results / "claim").read_bytes() == str(outcomes.index(True)).encode()


def test_a_text_is_written_whole_or_not_at_all(results: Path) -> None:
    with replaced(results / "text") as file:
        file.write("first")
    with pytest.raises(ZeroDivisionError), replaced(results / "text") as file:
        file.write(f"second {1 / 0}")
    assert (results / "text").read_text() == "first"
    touch(results / "text")
    assert (results / "text").read_text() == "first"


def store_at(results: Path, rank: int = 0) -> RunStore:
    store = RunStore(results / "runs/b/m/d" / PLAN.run_id, rank)
    store.start(new_run(PLAN), [*"abc"])
    return store


def places_of(store: RunStore) -> list[str]:
    """Names of its parts, without what tells those of an object store apart."""
    return [re.sub("-[0-9a-f]{16}", "", path.name) for path in store.files.paths()]


def test_a_store_holds_what_a_folder_would(results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here, there = store_at(tmp_path), store_at(results)
    for store in (here, there):
        store.append([record("b")])
        store.append([record("a", 7)])
        RunStore(store.folder, rank=1).append([record("a"), record("c")])
        (store.parts / "0-000009.parquet").write_bytes(b"PAR1 nothing")
    assert there.count() == 3
    assert stored(results) == stored(tmp_path)
    assert "set aside as 0-000009.parquet.damaged" in caplog.text
    assert places_of(there) == places_of(here)
    for store in (here, there):
        store.compact()
        store.skip({"x": "it is damaged"})
    assert places_of(there) == places_of(here) == ["0-000010.3.parquet"]
    assert stored(results) == stored(tmp_path)
    (found,) = find_runs(results)
    assert (found.read(), found.done(), found.skipped()) == (here.read(), here.done(), here.skipped())


def test_of_workers_that_choose_a_name_at_once_none_replaces_a_part_where_the_store_lets_them(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(results)
    with monkeypatch.context() as patch:
        patch.setattr(part_files, "children", lambda folder: iter(()))
        patch.setattr(part_files, "created", lambda path, content: bool(path.write_bytes(content)))
        for image in "ab":
            RunStore(store.folder).append([record(image)])
    assert store.done() == {"a", "b"}


def test_a_damaged_record_is_kept_aside_and_written_anew(results: Path) -> None:
    store = store_at(results)
    (store.folder / "run.json").write_bytes(b"{}")
    assert store_at(results).read() == new_run(PLAN)
    assert (store.folder / "run.json.damaged").read_bytes() == b"{}"


def test_processes_share_images_by_leases(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = place(f"{s3}/{token_hex(4)}")
    with HeldLease(results, ["run"]) as first, HeldLease(results, ["run"]) as second:
        assert first.claim([3, 1, 2], most=2) == [3, 1]
        assert second.claim([1, 2, 3, 4], most=9) == [2, 4]
        assert [lease.claimed for lease in read_leases(results)] == [(1, 3), (2, 4)]
        first.release([3])
        assert second.claim([1, 3], most=9) == [3]
    assert read_leases(results) == []
    assert not [*results.glob("runs/.leases/*/*")]
    dead = HeldLease(results, ["run"]).__enter__()
    dead.claim([1, 2], most=2)
    monkeypatch.setattr(leases, "STALE_SECONDS", -10.0)
    with HeldLease(results, ["run"]) as heir:
        assert heir.claim([1, 2, 3], most=9) == [1, 2, 3]
        assert not dead.path.exists()


def test_two_workers_without_a_shared_disk_make_one_run(s3: str, tmp_path: Path) -> None:
    """Equal to a run of this machine; the second worker is another process."""
    url = f"{s3}/{token_hex(4)}"
    words = ["--backbone", "pocket-sd15", "--method", "vanilla", "--limit", "12"]
    code = "from segscale.bench.commands.main import main; main()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, "run", *words, "--results", url], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    options = RunOptions(limit=12, results=place(url))
    task = build_task("pocket", build("protocol", "standard"), options)
    methods = build_methods(["vanilla"], "pocket-sd15", task.protocol)
    run_methods("pocket-sd15", methods, task, options)
    _, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors.decode()
    main(["run", *words, "--results", str(tmp_path)])
    assert stored(place(url)) == stored(tmp_path)


def test_commands_read_and_write_there(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{s3}/{token_hex(4)}"
    main(["bench", "--backbone", "pocket-sd15", "--method", "vanilla", "--limit", "2", "--results", url])
    out = capsys.readouterr().out
    assert f"wrote {url}/scaling.csv" in out
    assert place(f"{url}/figures/scaling.png").read_bytes().startswith(b"\x89PNG")
    main(["table", "--results", url])
    main(["report", "--results", url])
    main(["status", "--results", url])
    assert capsys.readouterr().out.endswith("1 runs: 1 done\n")
    (store,) = find_runs(place(url))
    main(["verify", str(store.folder)])
    assert capsys.readouterr().out == f"{store.folder}: 2 of 2 images agree\n"


def test_an_analysis_is_written_there_and_no_smaller_one_replaces_it(results: Path) -> None:
    table = pd.DataFrame({"layer": [0, 1], "images": [2, 2]})
    (path,) = write_analysis(table, results, "layers", overwrite=False)
    assert path.read_text() == "layer,images\n0,2\n1,2\n"
    with pytest.raises(UserError, match=r"holds 2 rows of 2 images, more than these 1 of 2"):
        write_analysis(table[:1], results, "layers", overwrite=False)
    write_analysis(table[:1], results, "layers", overwrite=True)
    assert path.read_text() == "layer,images\n0,2\n"


def test_tables_and_figure_of_scaling_are_written_there(results: Path) -> None:
    row = {"backbone": "a", "family": "x", "varied": "", "steps": None, "seed": None, "parameters": 10, "vanilla": 50.0}
    one = BackboneReplicates("a", 10, row, {"vanilla": np.array([50.0, 49.5])}, {"f1": np.array([1.0, 2.0])})
    names = {
        "dataset": "voc",
        "split": "val",
        "protocol": "goca",
        "task": "x",
        "thresholds": "vanilla 0",
        "images": "2, a",
    }
    conditions = Conditions(**names, seed=0, captions="c", pictures="3, b", measured_by="judge y", replicates=1)
    resampled = Resampled(conditions, (one,))
    with pytest.raises(UserError, match=r"there is no .*power-replicates\.parquet"):
        read_scaling(results, is_published=False)
    replicates, *texts, figure = write_scaling(resampled, pd.DataFrame(), results)
    assert [path.name for path in texts] == ["power.csv", "power-statistics.csv", "power-statistics.md"]
    assert texts[0].read_text() == resampled.table.to_csv(index=False)
    assert texts[2].read_text() == "no correlation: fewer than 4 configurations\n"
    assert figure.read_bytes().startswith(b"\x89PNG")
    again = read_scaling(results, is_published=False)
    assert again.conditions == conditions
    assert again.backbones[0].miou["vanilla"].tolist() == [50.0, 49.5]
    with pytest.raises(UserError, match=r"holds 1 backbones that have no runs here, such as a"):
        write_scaling(replace(resampled, backbones=(replace(one, name="b"),)), pd.DataFrame(), results)
    replicates.write_bytes(replicates.read_bytes()[:-9])
    with pytest.raises(UserError, match="is damaged"):
        read_scaling(results, is_published=False)


def test_a_store_that_goes_away_ends_a_run_in_one_line_and_no_heart(
    s3: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, error = f"{s3}/{token_hex(4)}", EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    beats, touched = list[str](), threading.Event()

    def away(path: Path, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            beats.append(path.name)
            if len(beats) == 2:
                touched.set()
        raise error

    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(leases, "touch", away)
    monkeypatch.setattr(RunStore, "append", lambda *_: touched.wait(60) and away(Path()))
    with pytest.raises(SystemExit) as end:
        main(["run", "--limit", "2", "--results", url])
    assert end.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("segscale: error: the object store failed (Could not connect to the endpoint URL: ")
    assert line.endswith(f"; once it answers: segscale run --limit 2 --results {url}")
    assert len(beats) >= 2
    assert read_leases(place(url)) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nothing://bucket/x", "nothing://bucket/x cannot be reached (Unsupported filesystem: 'nothing'); check the"),
        ("gs://bucket/x", "gs://bucket/x needs a package that is not installed ("),
        ("s3://bucket/x", "s3://bucket/x cannot be reached ("),
    ],
)
def test_a_store_that_is_not_there_is_one_line(url: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError) as error:
        place(url)
    assert str(error.value).startswith(problem)
