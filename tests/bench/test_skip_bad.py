"""Runs over a folder with every kind of damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.bench.runs import loop
from segscale.bench.runs.store import RunStore, find_runs

from .cells import evaluated
from .test_data_check import DAMAGE, make_voc

IMAGES = 40


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, set[str]]:
    """The folder, and the ids that cannot be used; one good id is listed twice."""
    ids = [f"img_{number:05d}" for number in range(IMAGES)]
    make_voc(tmp_path, ids)
    folder = tmp_path / "VOCdevkit/VOC2012"
    bad = ids[3 : 3 + 2 * len(DAMAGE) : 2]
    for id, (_, damage) in zip(bad, DAMAGE.values(), strict=True):
        damage(folder / f"JPEGImages/{id}.jpg", folder / f"SegmentationClass/{id}.png")
    (folder / "ImageSets/Segmentation/val.txt").write_text("".join(f"{id}\n" for id in [*ids, ids[0]]))
    return tmp_path, set(bad)


def command(root: Path, *options: str) -> list[str]:
    return ["run", "--dataset", "voc", "--data-root", str(root), "--results", str(root / "results"), *options]


def test_a_run_completes_without_the_bad_images_and_lists_them(
    damaged: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, bad = damaged
    main(command(root, "--skip-bad"))
    printed = capsys.readouterr().out
    assert f"{IMAGES - len(bad)} images" in printed
    assert f"left out {len(bad) + 1} bad images" in printed
    assert "img_00000 (again): " in printed
    assert all(f"    {id}: " in printed for id in bad)
    (store,) = find_runs(root / "results")
    assert evaluated(store).missing == 0
    assert store.skipped().keys() == bad | {"img_00000 (again)"}
    assert not bad & store.done()


def test_an_id_that_is_listed_twice_is_named_also_when_its_image_is_stored_by_then(
    damaged: tuple[Path, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = damaged
    monkeypatch.setattr(loop, "FLUSH_SECONDS", 0)
    main(command(root, "--skip-bad"))
    (store,) = find_runs(root / "results")
    assert "img_00000 (again)" in store.skipped()


def test_without_the_option_a_run_stops_at_the_first_and_what_was_computed_stays(
    damaged: tuple[Path, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, bad = damaged
    with pytest.raises(SystemExit) as stopped:
        main(command(root))
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("segscale: error")]
    assert len(lines) == 1
    assert min(bad) in lines[0]
    (store,) = find_runs(root / "results")
    assert len(store.done()) == 3


def seconds(store: RunStore) -> dict[str, float]:
    """What each stored image took, which no second computation repeats."""
    counts = store.load(store.read())
    return dict(zip(counts.images, counts.seconds.tolist(), strict=True))


def test_a_repaired_image_joins_the_run(damaged: tuple[Path, set[str]]) -> None:
    root, bad = damaged
    main(command(root, "--skip-bad"))
    (store,) = find_runs(root / "results")
    before = seconds(store)
    masks = root / "VOCdevkit/VOC2012/SegmentationClass"
    repaired = next(id for id in sorted(bad) if not (masks / f"{id}.png").exists())
    (masks / f"{repaired}.png").write_bytes((masks / "img_00000.png").read_bytes())
    main(command(root, "--skip-bad"))
    after = seconds(store)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() == {repaired}
    assert repaired not in store.skipped()
