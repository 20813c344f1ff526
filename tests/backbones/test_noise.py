from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from segscale.backbones.build import build_backbone
from segscale.backbones.latents.noise import (
    Answers,
    NoiseLevel,
    diffusion_level,
    flow_level,
    image_generator,
    level_of_share,
)
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.errors import UserError

SCALED_LINEAR = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def pndm() -> PNDMScheduler:
    return PNDMScheduler(**SCALED_LINEAR, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)


@pytest.mark.parametrize(
    ("scheduler", "fed"),
    [
        (pndm(), 101),
        (EulerDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="leading"), 100),
        (DPMSolverMultistepScheduler(), 100),
        (DDIMScheduler(**SCALED_LINEAR, steps_offset=1), 100),
    ],
)
def test_timestep_100_feeds_what_goca_feeds(scheduler: object, fed: int) -> None:
    assert diffusion_level(scheduler, Timestep(t=100)).timestep == fed


def test_signal_and_noise_are_those_of_the_fed_timestep() -> None:
    level = diffusion_level(pndm(), Timestep(t=100))
    assert level.signal**2 == pytest.approx(0.8929802179336548, abs=1e-6)
    assert level.signal**2 + level.noise**2 == pytest.approx(1)


@pytest.mark.parametrize(
    "scheduler", [pndm(), EulerDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="leading")]
)
def test_timestep_1000_has_the_noise_of_the_last_training_step(scheduler: PNDMScheduler) -> None:
    level = diffusion_level(scheduler, Timestep(t=1000))
    assert level.timestep == 1000
    assert level.signal**2 == pytest.approx(float(scheduler.alphas_cumprod[999]))


def test_flux_strength_015_is_timestep_407_at_1024_pixels() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=256, max_image_seq_len=4096
    )
    level = flow_level(scheduler, Timestep(t=150), image_tokens=4096)
    assert level.timestep == pytest.approx(407.08, abs=0.01)
    assert level.noise == pytest.approx(level.timestep / 1000)


def test_seg4diff_index_minus_8_of_28_is_timestep_515() -> None:
    level = flow_level(FlowMatchEulerDiscreteScheduler(shift=3.0), Timestep(index=-8, steps=28), image_tokens=4096)
    assert level.timestep == pytest.approx(515.0721, abs=1e-3)
    assert level.noise == pytest.approx(0.5150721, abs=1e-6)


# Of a clean latent 1 and a draw of 3, mixed by 0.6 and 0.8, of flow by 0.2 and 0.8.
RIGHT_ANSWERS: dict[Answers, float] = {"flow": 2, "v_prediction": 0.6 * 3 - 0.8, "epsilon": 3, "sample": 1}


@pytest.mark.parametrize("answers", RIGHT_ANSWERS)
def test_a_right_answer_is_the_target_and_gives_the_clean_latent(answers: Answers) -> None:
    level = NoiseLevel(1.0, 0.2 if answers == "flow" else 0.6, 0.8, answers)
    clean, draw = torch.ones(1, 4, 8, 8), 3 * torch.ones(1, 4, 8, 8)
    target = level.target(clean, draw)
    torch.testing.assert_close(target, torch.full_like(clean, RIGHT_ANSWERS[answers]))
    torch.testing.assert_close(level.clean(level.mix(clean, draw), target), clean)


@pytest.mark.parametrize("answers", ["v_prediction", "epsilon", "sample"])
def test_a_diffusion_level_knows_what_its_denoiser_predicts(answers: str) -> None:
    scheduler = DDIMScheduler(**SCALED_LINEAR, prediction_type=answers)
    for level in (diffusion_level(scheduler, Timestep(t=100)), level_of_share(scheduler, 0.1)):
        assert level.answers == answers


def test_a_level_of_flow_matching_is_its_share() -> None:
    assert level_of_share(FlowMatchEulerDiscreteScheduler(), 0.25) == NoiseLevel(250.0, 0.75, 0.25, "flow")


def test_a_prediction_of_another_kind_is_refused() -> None:
    scheduler = DDIMScheduler(**SCALED_LINEAR, prediction_type="score")
    with pytest.raises(UserError, match="a denoiser that predicts 'score' is not known"):
        diffusion_level(scheduler, Timestep(t=100))


def test_the_scheduler_is_left_as_it_was() -> None:
    scheduler = pndm()
    diffusion_level(scheduler, Timestep(t=100))
    assert scheduler.num_inference_steps is None


@given(st.integers(0, 2**31), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_noise_belongs_to_seed_dataset_and_image(seed: int, dataset: str, image: str, other: str) -> None:
    first, again = (torch.randn(4, generator=image_generator(seed, dataset, image)) for _ in range(2))
    assert torch.equal(first, again)
    if other != image:
        assert not torch.equal(first, torch.randn(4, generator=image_generator(seed, dataset, other)))
    assert not torch.equal(first, torch.randn(4, generator=image_generator(seed + 1, dataset, image)))


@pytest.mark.parametrize("fields", [{}, {"t": 1, "index": 1, "steps": 2}, {"index": 1}])
def test_a_timestep_is_either_t_or_an_entry_of_a_schedule(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Timestep(**fields)


def test_flux_spaces_its_levels_evenly_also_without_a_shift_by_size() -> None:
    """``FluxImg2ImgPipeline`` gives its scheduler these levels itself, and begins at the fifth last of 28."""
    schnell = FlowMatchEulerDiscreteScheduler(shift=1.0)
    assert flow_level(schnell, Timestep(t=150), 4096, evenly=True).noise == pytest.approx(5 / 28)
    backbone = build_backbone("pocket-flux")
    backbone.pipeline.scheduler = schnell
    assert backbone.noise_level(CaptureSettings(128, Timestep(t=150))).timestep == pytest.approx(5000 / 28)
