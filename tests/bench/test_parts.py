"""Parts that are damaged, foreign or impossible: each is named in one line, set aside and never counted."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segscale.bench.runs import parts
from segscale.bench.runs.counts import StoredCounts
from segscale.bench.runs.parts import COUNTS, FORMAT_KEY, RUN_KEY, read_part
from segscale.bench.runs.record import FORMAT
from segscale.bench.runs.store import RunStore
from segscale.errors import StoreError

from .stored_runs import PLAN, new_run, record

IMAGES = [f"image-{index}" for index in range(6)]
FLIPS = 400


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Two parts of three images."""
    store = RunStore(tmp_path / "run")
    store.start(new_run(PLAN), IMAGES)
    for first in (0, 3):
        store.append([record(image, 3 + index) for index, image in enumerate(IMAGES[first : first + 3])])
    return store


def reopened(store: RunStore) -> RunStore:
    """The folder as another process sees it, which has the dataset at hand."""
    again = RunStore(store.folder)
    again.start(new_run(PLAN), IMAGES)
    return again


def loaded(store: RunStore) -> StoredCounts:
    return store.load(store.read())


def numbers(counts: StoredCounts) -> dict[str, tuple[Any, ...]]:
    """Everything that is stored of each image."""
    columns = [getattr(counts, name) for name in (*COUNTS, "seconds", "peak_bytes")]
    return {image: tuple(column[row].tolist() for column in columns) for row, image in enumerate(counts.images)}


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_or_byte_changes_a_number(
    seed: int, store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator, before = random.Random(seed), numbers(loaded(store))
    part, whole = store.parts / "0-000000.parquet", (store.parts / "0-000000.parquet").read_bytes()
    refused = 0
    for flip in range(FLIPS // 4):
        changed = bytearray(whole)
        mask = 1 << generator.randrange(8) if flip % 2 else generator.randrange(1, 256)
        changed[generator.randrange(len(whole))] ^= mask
        part.write_bytes(changed)
        caplog.clear()
        after = numbers(loaded(reopened(store)))
        assert after.items() <= before.items()
        assert {*IMAGES[3:]} <= after.keys()
        if len(after) < len(before):
            refused += 1
            (line,) = caplog.messages
            assert line.startswith(f"{part} ")
            assert len(line.splitlines()) == 1
    assert refused > FLIPS // 8


def test_a_part_of_another_run_is_refused(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    other = RunStore(store.folder.parent / "other")
    other.start(new_run(replace(PLAN, seed=1)), IMAGES)
    shutil.copy(store.parts / "0-000000.parquet", other.parts / "0-000000.parquet")
    assert not other.done()
    assert f"belongs to run {PLAN.run_id}; set aside as 0-000000.parquet.damaged" in caplog.text


def rewritten(store: RunStore, change: Callable[[pa.Table], pa.Table], name: str = "0-000000.parquet") -> None:
    """Change a part as somebody else's program would, checksums included."""
    path = store.parts / name
    table = change(pq.read_table(path))
    pq.write_table(table, path, write_page_checksum=True)


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        return table.set_column(
            table.schema.get_field_index(name), field, [pa.array(change(table[name].to_pylist()), field.type)]
        )

    return changed


def shifted(name: str, by: int) -> Callable[[pa.Table], pa.Table]:
    """The first image's first area changed."""
    return with_column(name, lambda rows: [[rows[0][0] + by, *rows[0][1:]], *rows[1:]])


def with_metadata(**changes: str | None) -> Callable[[pa.Table], pa.Table]:
    keys = {"run": RUN_KEY, "format": FORMAT_KEY}

    def changed(table: pa.Table) -> pa.Table:
        metadata = dict(table.schema.metadata)
        for key, value in changes.items():
            metadata.pop(keys[key])
            if value is not None:
                metadata[keys[key]] = value.encode()
        return table.replace_schema_metadata(metadata)

    return changed


# What is done to a part, and what its line says.
IMPOSSIBLE: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a negative area": (shifted("predicted_area", -100), "an area is negative"),
    "a negative intersection": (shifted("intersection", -100), "an area is negative"),
    "an intersection above its prediction": (shifted("predicted_area", -2), "an intersection is larger than its areas"),
    "an intersection above its label": (shifted("label_area", -1), "an intersection is larger than its areas"),
    "more predicted than there is": (shifted("predicted_area", 100), "areas are larger than the image"),
    "more labelled than there is": (shifted("label_area", 100), "areas are larger than the image"),
    "a sum beyond 64 bits": (
        with_column("predicted_area", lambda rows: [[2**62] * len(row) for row in rows]),
        "areas are larger than the image",
    ),
    "a short list": (with_column("intersection", lambda rows: [rows[0][:-1], *rows[1:]]), "intersection has another"),
    "lists of another length that fit together": (
        with_column("label_area", lambda rows: [rows[0][:-1], [*rows[1], 0], *rows[2:]]),
        "label_area has another length",
    ),
    "a null": (with_column("seconds", lambda rows: [None, *rows[1:]]), "a value is missing"),
    "a null for counts": (with_column("intersection", lambda rows: [None, *rows[1:]]), "a value is missing"),
    "a null within counts": (
        with_column("intersection", lambda rows: [[None, *rows[0][1:]], *rows[1:]]),
        "intersection has another length",
    ),
    "another number that is possible": (shifted("label_area", 1), "its values are not those that were written"),
    "another time": (with_column("seconds", lambda rows: [0.25, *rows[1:]]), "its values are not those that were"),
    "a negative time": (
        with_column("seconds", lambda rows: [-1.0, *rows[1:]]),
        "time, memory or a number of scores is negative",
    ),
    "an image twice": (with_column("image", lambda rows: [rows[1], *rows[1:]]), "an image is in it twice"),
    "another dataset's image": (
        with_column("image", lambda rows: ["elsewhere", *rows[1:]]),
        "elsewhere is no image of this dataset",
    ),
    "a column less": (lambda table: table.drop_columns(["seconds"]), "it has other columns"),
    "a column more": (lambda table: table.append_column("more", table["seconds"]), "it has other columns"),
    "a column of another type": (
        lambda table: table.set_column(1, "seconds", table["seconds"].cast(pa.float32())),
        "it has other columns",
    ),
    "another run": (with_metadata(run="0123456789ab"), "belongs to run 0123456789ab"),
    "no format": (with_metadata(format=None), f"is of format 2 or older, this version reads {FORMAT}"),
    "a newer format": (with_metadata(format="9"), f"is of format 9, this version reads {FORMAT}"),
    "a name that is no text": (lambda table: table.replace_schema_metadata({FORMAT_KEY: b"\xff"}), "is damaged"),
}


@pytest.mark.parametrize(("change", "line"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_no_image_can_have_is_named_and_set_aside(
    change: Callable[[pa.Table], pa.Table], line: str, store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    before = numbers(loaded(store))
    rewritten(store, change)
    again = reopened(store)
    assert numbers(loaded(again)) == {image: before[image] for image in IMAGES[3:]}
    (message,) = caplog.messages
    assert line in message
    assert message.endswith("; set aside as 0-000000.parquet.damaged, its images will be computed again")
    assert again.done() == {*IMAGES[3:]}
    assert (store.parts / "0-000000.parquet.damaged").exists()


def test_without_the_dataset_its_ids_are_not_asked(store: RunStore) -> None:
    store.append([record("elsewhere")])
    assert "elsewhere" in RunStore(store.folder).done()


def test_a_part_under_a_strange_name_counts_once_and_blocks_nothing(store: RunStore) -> None:
    before = numbers(loaded(store))
    for name in ("0-000000 (1).parquet", "0-.parquet", "copy.parquet", "0-x-1.parquet"):
        shutil.copy(store.parts / "0-000000.parquet", store.parts / name)
    assert numbers(loaded(reopened(store))) == before
    store.append([record(IMAGES[0])])
    assert (store.parts / "0-000002.parquet").exists()


def test_a_damaged_part_that_cannot_be_renamed_is_named_and_not_counted(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (store.parts / "0-000000.parquet").write_bytes(b"PAR1")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    assert loaded(RunStore(store.folder)).images == tuple(IMAGES[3:])
    (message,) = caplog.messages
    assert message.endswith("it stays there (Read-only file system) and is not counted")


@pytest.mark.parametrize(
    "refusal",
    [pa.ArrowMemoryError("malloc failed"), pa.ArrowException("Unknown error: Failed to launch worker thread")],
)
def test_a_part_that_this_machine_cannot_read_now_is_whole_and_stays(
    refusal: Exception, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> pa.Table:
        raise refusal

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read", refuse)
        with pytest.raises(StoreError) as caught:
            RunStore(store.folder).done()
    part = store.parts / "0-000000.parquet"
    assert str(caught.value) == f"{part} cannot be read ({refusal}); give the same command again"
    assert RunStore(store.folder).done() == {*IMAGES}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"{", bytes(range(256))])
def test_a_damaged_list_of_images_left_out_is_one_line(
    content: bytes, store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.folder / "skipped-0.json"
    path.write_bytes(content)
    assert store.skipped() == {}
    (message,) = caplog.messages
    assert message == f"{path} is damaged; the images that it left out will be tried again"
    store.skip({"image-9": "there is no image-9.png"})
    assert store.skipped() == {"image-9": "there is no image-9.png"}


def test_a_part_is_read_once_by_one_store(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path, rules: parts.PartRules) -> pa.Table:
        read.append(path.name)
        return read_part(path, rules)

    monkeypatch.setattr("segscale.bench.runs.store.read_part", counted)
    store.append([record(IMAGES[0])])
    assert store.done() == store.done() == {*IMAGES}
    assert read == []
    again = reopened(store)
    assert again.done() == again.done() == {*IMAGES}
    assert sorted(read) == ["0-000000.parquet", "0-000001.parquet", "0-000002.parquet"]
    store.append([record(IMAGES[1])])
    assert again.done() == {*IMAGES}
    assert read[3:] == ["0-000003.parquet"]


def test_images_that_another_process_moves_to_another_part_meanwhile_are_not_missed(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (store.parts / f"0-00000{number}.parquet" for number in range(2))

    def moving(path: Path, rules: parts.PartRules) -> pa.Table:
        if path == first and second.exists():
            second.rename(store.parts / "1-000000.parquet")
        return read_part(path, rules)

    monkeypatch.setattr("segscale.bench.runs.store.read_part", moving)
    assert loaded(RunStore(store.folder)).images == tuple(IMAGES)


@pytest.mark.parametrize("use", [RunStore.done, RunStore.count, RunStore.part_keys, loaded])
def test_a_link_to_a_file_that_is_gone_is_one_line(use: Callable[[RunStore], object], store: RunStore) -> None:
    part = store.parts / "0-000001.parquet"
    part.unlink()
    part.symlink_to(store.parts / "elsewhere")
    with pytest.raises(StoreError) as caught:
        use(RunStore(store.folder))
    assert str(caught.value) == (
        f"{part} is a link to a file that is gone; bring that back, or have its images computed again: rm {part}"
    )


def test_areas_are_as_large_as_the_image_at_most(store: RunStore) -> None:
    """The whole image, predicted and labelled as one class, is possible."""
    full = np.array([[10, 0, 0]] * 2)
    store.append([replace(record("image-0", 1), counts=parts.PixelCounts(full, full, full[0]))])
    assert len(loaded(reopened(store))) == len(IMAGES)
