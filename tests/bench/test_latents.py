"""What an autoencoder makes of masks: known answers, and faults."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel

from segscale.backbones.loading.autoencoder import load_autoencoder
from segscale.bench.analysis.latents import LatentPixels, balanced_accuracy, fit, held_out_accuracy, latent_table
from segscale.bench.commands.main import main
from segscale.datasets.dataset import Sample
from segscale.datasets.pocket import PocketScenes
from segscale.errors import UserError


def scenes(size: int) -> PocketScenes:
    return PocketScenes(name="pocket", split="val", size=size)


def pixels(separation: float, seed: int, count: int = 400) -> LatentPixels:
    """Two clouds of unit spread whose means are apart along the first axis; one in four is inside."""
    rng = np.random.default_rng(seed)
    inside = rng.random(count) < 0.25
    values = rng.normal(size=(count, 3))
    values[:, 0] += np.where(inside, separation, -separation) + 5
    return LatentPixels(values, inside)


def test_a_linear_classifier_is_as_good_as_two_clouds_allow() -> None:
    for separation, known in ((0.0, 0.5), (1.0, 0.841), (4.0, 1.0)):
        estimate = held_out_accuracy([pixels(separation, seed) for seed in range(40)])
        assert estimate.value == pytest.approx(known, abs=0.02)


def test_rare_pixels_weigh_as_much_as_frequent_ones() -> None:
    weights = fit([pixels(2.0, seed) for seed in range(10)])
    # The border lies in the middle of the clouds, whose mean is 5, though one is a quarter of all.
    assert -weights[-1] / weights[0] == pytest.approx(5, abs=0.1)


def test_an_image_without_one_side_has_no_accuracy() -> None:
    assert np.isnan(balanced_accuracy(LatentPixels(np.zeros((4, 3)), np.ones(4, np.bool_)), np.ones(4)))


def test_masks_survive_the_pocket_autoencoder_and_noise_longer_than_pictures() -> None:
    table = latent_table(load_autoencoder("pocket"), scenes(24), 64, None, seed=0)
    by_measure = table.set_index(["measure", "of", "at"])["mean"]
    survival = table[table["measure"] == "survival"].iloc[0]
    assert survival["low"] < survival["mean"] < survival["high"]
    assert survival["mean"] > 0.95
    assert by_measure["variance", "masks", 1] > 0.9
    assert by_measure["correlation", "masks", 1] > 0.9
    variances = table[table["measure"] == "variance"]
    assert len(variances) == 4
    assert variances["mean"].sum() == pytest.approx(1, abs=1e-6)
    accuracies = [by_measure["accuracy", "masks", sigma] for sigma in (0.0, 0.5, 0.7, 0.95)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.97 > by_measure["accuracy", "pictures", 0.0] + 0.1


def test_one_row_depends_on_no_other_image() -> None:
    vae = load_autoencoder("pocket")
    pd.testing.assert_frame_equal(latent_table(vae, scenes(8), 64, 6, 0), latent_table(vae, scenes(6), 64, None, 0))


def test_images_without_classes_are_too_few() -> None:
    class Empty(PocketScenes):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.id, sample.image, np.zeros_like(sample.label))

    with pytest.raises(UserError, match="0 images of pocket show a class"):
        latent_table(load_autoencoder("pocket"), Empty(name="pocket", split="val", size=5), 64, None, 0)


def test_a_folder_of_an_autoencoder_or_of_a_pipeline_is_taken(tmp_path: Path) -> None:
    vae = load_autoencoder("pocket")
    vae.save_pretrained(tmp_path / "alone")
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    for folder in ("alone", "pipeline"):
        again = load_autoencoder(str(tmp_path / folder))
        assert isinstance(again, AutoencoderKL)
        assert torch.equal(again.encoder.conv_in.weight, vae.encoder.conv_in.weight)
        assert again.config["shift_factor"] == vae.config["shift_factor"]


def test_what_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no autoencoder"):
        load_autoencoder(str(tmp_path))
    other = UNet2DModel(
        block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4
    )
    other.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="holds a UNet2DModel, not an AutoencoderKL"):
        load_autoencoder(str(tmp_path))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    load_autoencoder("pocket").save_pretrained(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_autoencoder(str(tmp_path))


def test_the_command_writes_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["latents", "pocket", "--limit", "4", "--results", str(tmp_path)])
    assert "IoU of masks through the autoencoder and back" in capsys.readouterr().out
    stem = tmp_path / "analysis" / "pocket-pocket-val-latents-size64-first4"
    assert len(pd.read_csv(stem.with_suffix(".csv"))) == 6 + 12
    assert stem.with_suffix(".png").stat().st_size > 10_000
