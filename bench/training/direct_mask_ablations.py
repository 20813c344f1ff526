"""What each choice of GenMask's training does at pocket size: variants of one recipe, some seeds each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from pydantic import JsonValue, TypeAdapter, ValidationError

from segscale.errors import UserError
from segscale.files import explained_writes, replaced

from ...backbones.loading.autoencoder import POCKET, load_autoencoder
from ...backbones.loading.pretrained import reinitialise
from ...backbones.wan import WanMasks
from ..evaluation.pixel_counts import PixelCounts
from ..generation.judge import Judge
from .checkpoint import refuse_other
from .direct_mask_drawing import Rows, areas_by_scene, drawn_masks, picture_losses, picture_objects, rows_of
from .direct_mask_scenes import MaskScenes
from .direct_mask_twin import untrained_twin
from .direct_masks import MaskRecipe, MaskTrainer
from .timestep_laws import HeavyTail, LogitNormal, Uniform

FOLDER = "genmask"
"""Below the results: where outcomes are kept."""
MORE_STEPS = 10
"""Besides one, in how many steps masks are drawn; the field ``ten_steps`` is named after it."""
PAIR_SCENE_SHARE = 0.4
"""Scenes with two of a kind to train on, for each plain one."""
VARIANTS: Mapping[str, MaskRecipe] = MappingProxyType(
    {
        "a=0.05": MaskRecipe(),
        "a=0.1": MaskRecipe(masks=HeavyTail(0.1)),
        "a=0.5": MaskRecipe(masks=HeavyTail(0.5)),
        "logit-normal": MaskRecipe(masks=LogitNormal()),
        "uniform": MaskRecipe(masks=Uniform()),
        "no-image-tokens": MaskRecipe(image_tokens=False),
        "no-generation": MaskRecipe(tasks="masks"),
        "no-masks": MaskRecipe(tasks="pictures"),
        "cross-entropy": MaskRecipe(loss="bce"),
    }
)


@dataclass(frozen=True)
class Outcome:
    """One variant trained with one seed, measured on held-out scenes."""

    variant: str
    seed: int
    steps: int
    """Of the training."""
    one_step: Rows
    """By scene: intersection, drawn and true area of masks that are drawn in one step."""
    ten_steps: Rows
    objects: Rows
    """By scene, of a picture of its caption: objects that are named and shown, named, and shown."""
    losses: tuple[float, ...]
    """By scene: the squared error of the velocity on its picture."""
    made_by: dict[str, JsonValue]
    """All that it follows from: recipe, scenes of both kinds, first weights, autoencoder, judge and version."""


_OUTCOME = TypeAdapter(Outcome)


@dataclass(frozen=True)
class Ablation:
    """Trains variants and keeps what came out, so that it goes on where it was interrupted."""

    backbone: WanMasks
    train: MaskScenes
    held_out: MaskScenes
    steps: int
    folder: Path
    """Of the outcomes, a file for each."""
    judge: Judge = field(default_factory=Judge)

    def run(self, seeds: Sequence[int], variants: Sequence[str]) -> Iterator[Outcome]:
        """All outcomes of seeds and variants, those first that all variants have.

        Raises:
            UserError: Where a kept one was made otherwise.
        """
        for seed in seeds:
            for variant in variants:
                path = self.folder / f"{variant}-steps{self.steps}-seed{seed}.json"
                reinitialise(self.backbone.denoiser, seed)
                recipe = replace(VARIANTS[variant], steps=self.steps, seed=seed)
                trainer = MaskTrainer(self.backbone, self.train, recipe)
                yield self._kept(path, trainer) if path.exists() else self._made(path, trainer, variant)

    def _made_by(self, trainer: MaskTrainer) -> dict[str, JsonValue]:
        return {
            **trainer.identity,
            "held_out": self.held_out.identity,
            "steps_drawn": MORE_STEPS,
            "judge": self.judge.id,
        }

    def _kept(self, path: Path, trainer: MaskTrainer) -> Outcome:
        kept = read_outcome(path)
        hint = "remove it and give the command again"
        refuse_other(f"{path} was made otherwise", kept.made_by, self._made_by(trainer), hint)
        return kept

    def _made(self, path: Path, trainer: MaskTrainer, variant: str) -> Outcome:
        recipe, made_by = trainer.recipe, self._made_by(trainer)
        average = trainer.train()
        self.backbone.denoiser.load_state_dict(average.state_dict())
        self.backbone.denoiser.eval().requires_grad_(False)
        one_step, ten_steps = mask_areas(self.backbone, self.held_out, recipe.image_tokens)
        objects = picture_objects(self.backbone, self.held_out, self.judge)
        losses = tuple(picture_losses(self.backbone, self.held_out).tolist())
        outcome = Outcome(variant, recipe.seed, self.steps, one_step, ten_steps, objects, losses, made_by)
        with explained_writes(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                file.write(_OUTCOME.dump_json(outcome).decode() + "\n")
        return outcome


def mask_areas(backbone: WanMasks, held_out: MaskScenes, image_tokens: bool = True) -> tuple[Rows, Rows]:
    """Areas of the masks of every class of every scene, drawn in one step and in ten."""
    asked = held_out.every_class()
    drawn = (drawn_masks(backbone, asked, count, image_tokens) for count in (1, MORE_STEPS))
    one_step, ten_steps = (_area_rows(areas_by_scene(masks, asked)) for masks in drawn)
    return one_step, ten_steps


def ablate(
    variants: Sequence[str], seeds: Iterable[int], steps: int, scenes: tuple[int, int], folder: Path
) -> list[Outcome]:
    """Train and measure variants of the pocket twin.

    Args:
        variants: Some of ``VARIANTS``.
        seeds: Each trains every variant, from weights of its own.
        steps: Of every training.
        scenes: How many to train on, and how many held-out ones to measure on.
        folder: Where outcomes are kept; those that are there are not made again.
    """
    train, held_out = scenes
    with TemporaryDirectory() as unfinished:
        backbone = untrained_twin(load_autoencoder(POCKET), Path(unfinished))
    vae = backbone.vae
    ablation = Ablation(
        backbone,
        MaskScenes(vae, "train", train, int(PAIR_SCENE_SHARE * train)),
        MaskScenes(vae, "val", held_out, 0),
        steps,
        folder / f"scenes{train}-heldout{held_out}",
    )
    return [*ablation.run([*seeds], variants)]


def known_variants(names: Sequence[str] | None) -> tuple[str, ...]:
    """The variants of these names, all where none are named. Raises UserError for an unknown one."""
    for name in names or ():
        if name not in VARIANTS:
            raise UserError(f"there is no variant {name!r}", f"there are: {', '.join(VARIANTS)}")
    return tuple(dict.fromkeys(names or VARIANTS))


def read_outcome(path: Path) -> Outcome:
    """Read a kept outcome. Raises UserError for one that is damaged or of another version."""
    try:
        return _OUTCOME.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise UserError(f"{path} is damaged or of another version", "remove it and give the command again") from error


def _area_rows(counts: PixelCounts) -> Rows:
    return rows_of(part[:, 0] for part in (counts.intersection, counts.predicted_area, counts.label_area))
