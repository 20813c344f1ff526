"""Word maps while a diffusers pipeline generates: every forward of its denoiser is observed, whoever calls it."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from segscale.errors import UserError
from segscale.prompt import Prompt, Word

from .attention.gather import module_targets
from .attention.recorder import Observation, map_probe
from .attention.requests import MapRequest
from .attention.sites import Grid, Site, text_sites
from .attention.ways import ways_on
from .backbone import Backbone
from .flux import Flux
from .pixart import PixArtSigma
from .sd3 import StableDiffusion3
from .sdxl import StableDiffusionXL
from .stable_diffusion import StableDiffusion

log = logging.getLogger(__name__)

FAMILIES: tuple[type[Backbone], ...] = (StableDiffusionXL, StableDiffusion, PixArtSigma, StableDiffusion3, Flux)
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclass(frozen=True)
class TracedPicture:
    """Word maps of one picture while it was generated."""

    prompt: str
    words: tuple[str, ...]
    """Every word of the prompt that has a token, once."""
    steps: list[Tensor] = field(default_factory=list)
    """By forward: float32 ``(words, height, width)`` on the CPU, the mean over sites and heads of a word's tokens."""


def words_of(text: str) -> tuple[Word, ...]:
    """Every word of a text with all its places, in the order in which they come first."""
    places: dict[str, list[tuple[int, int]]] = {}
    for match in WORD.finditer(text):
        places.setdefault(match.group().lower(), []).append(match.span())
    return tuple(Word(name, tuple(spans)) for name, spans in places.items())


class Tracer:
    """A context manager around calls of a pipeline; ``pictures`` has one entry for every picture of them.

    The maps are those of the rows that have the prompt, not of those without it or with a negative one.
    """

    def __init__(self, pipeline: DiffusionPipeline, site_names: Collection[str] | None = None) -> None:
        """Say what is observed.

        Args:
            pipeline: Of any of the five families.
            site_names: Where, see ``segscale sites``; every site with text, where it is None.

        Raises:
            UserError: The pipeline is of no family that is known.
        """
        self.pictures: list[TracedPicture] = []
        self._pipeline: Any = pipeline
        self._backbone = _family(pipeline).around(pipeline)
        self._site_names = site_names
        self._batch: _Batch | None = None
        self._forward: Generator[None, None, None] | None = None
        self._restore: list[Callable[[], None]] = []

    def __enter__(self) -> Tracer:
        """Begin to observe."""
        denoiser = self._backbone.denoiser
        self._replace(self._pipeline, "check_inputs", self._checking(self._pipeline.check_inputs))
        self._replace(self._pipeline, "encode_prompt", self._encoding(self._pipeline.encode_prompt))
        # Offloading replaces the method ``forward`` after every call of the pipeline, and leaves hooks of torch alone.
        begin = denoiser.register_forward_pre_hook(self._begin_forward, with_kwargs=True)
        end = denoiser.register_forward_hook(self._end_forward, always_call=True)
        self._restore += [begin.remove, end.remove]
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the pipeline as it was, and warn of prompts that have no maps."""
        self._drop_forward()
        while self._restore:
            self._restore.pop()()
        unseen = dict.fromkeys(picture.prompt for picture in self.pictures if not picture.steps)
        if unseen and exc is None:
            log.warning("no forward of the denoiser had the prompt, so there are no maps of: %s", ", ".join(unseen))

    def _replace(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        own = vars(owner).get(name)
        setattr(owner, name, function)
        self._restore.append(
            functools.partial(delattr, owner, name) if own is None else lambda: setattr(owner, name, own)
        )

    def _checking(self, check_inputs: Callable[..., Any]) -> Callable[..., Any]:
        """Begin anew with every call that has a text: one before it may have ended before its first forward."""
        signature = inspect.signature(check_inputs)

        @functools.wraps(check_inputs)
        def check(*args: Any, **kwargs: Any) -> Any:
            if signature.bind(*args, **kwargs).arguments.get("prompt") is not None:
                self._batch = None
            return check_inputs(*args, **kwargs)

        return check

    def _encoding(self, encode_prompt: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(encode_prompt)

        @functools.wraps(encode_prompt)
        def encode(*args: Any, **kwargs: Any) -> Any:
            encoded = encode_prompt(*args, **kwargs)
            # A second text before any forward is the negative prompt.
            if self._batch is None or self._batch.pictures[0].steps:
                self._batch = self._new_batch(signature.bind(*args, **kwargs).arguments, encoded[0])
                self.pictures += self._batch.pictures
            return encoded

        return encode

    def _new_batch(self, arguments: Mapping[str, Any], embeddings: Tensor) -> _Batch:
        prompt = arguments.get("prompt")
        if prompt is None:
            raise UserError(
                "the pipeline was given embeddings, whose words are not known", "give it the prompt as text"
            )
        if any(arguments.get(name) not in (None, prompt) for name in ("prompt_2", "prompt_3")):
            raise UserError("the text encoders were given different prompts", "give one prompt alone")
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        text_length = embeddings.shape[1]
        _set_text_length(self._backbone, text_length)
        copies = len(embeddings) // len(texts)
        read = texts
        if arguments.get("clean_caption"):
            read = self._pipeline._text_preprocessing(texts, clean_caption=True)
        pairs = zip(texts, read, strict=True)
        rows = [_row(self._backbone, *pair) for pair in pairs for _ in range(copies)]
        return _Batch(embeddings, tuple(picture for picture, _ in rows), tuple(columns for _, columns in rows))

    def _begin_forward(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._drop_forward()
        states = kwargs.get("encoder_hidden_states")
        rows = [] if self._batch is None or states is None else self._batch.rows_with_prompt(states)
        # A forward without some blocks is a guidance's own, and no step of the picture.
        if not rows or kwargs.get("skip_layers") is not None:
            return
        assert self._batch is not None
        self._forward = self._observed(self._batch, rows, args, kwargs)
        next(self._forward)

    def _end_forward(self, _module: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        # Torch has no output where the forward raised.
        if self._forward is not None and output is not None:
            next(self._forward, None)
        self._drop_forward()

    def _drop_forward(self) -> None:
        """Observe no more of a forward that did not come to its end."""
        if self._forward is not None:
            self._forward.close()
        self._forward = None

    def _observed(
        self, batch: _Batch, rows: Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[None, None, None]:
        """Observe what runs between the generator's two steps."""
        backbone, states = self._backbone, kwargs["encoder_hidden_states"]
        sites = self._sites(_grid(backbone, args, kwargs))
        largest = max((site.grid for site in sites.values()), key=lambda grid: grid.pixels)
        joint = functools.partial(backbone.joint_columns, text_length=states.shape[1])
        ways = ways_on(states.device)
        targets = module_targets(sites, MapRequest(text=frozenset(sites)), joint, ways.layers)
        gathered = _Sum(batch, rows, {site.text_module: site.grid for site in sites.values()}, largest)
        with map_probe(backbone.denoiser, targets, observer=gathered, text_way=ways.text):
            yield
        for picture, maps in zip(batch.pictures, gathered.means(), strict=True):
            picture.steps.append(maps)

    def _sites(self, grid: Grid) -> dict[str, Site]:
        found = text_sites(self._backbone.sites_on(grid))
        if self._site_names is None:
            return found
        if unknown := sorted(set(self._site_names) - found.keys()):
            raise UserError(
                f"{self._backbone.name} has no text at a site {unknown[0]!r}", f"there are: {', '.join(found)}"
            )
        return {name: site for name, site in found.items() if name in self._site_names}


@dataclass(frozen=True)
class _Batch:
    """The pictures of one call of the pipeline."""

    embeddings: Tensor
    """Of the prompt, a row for every picture."""
    pictures: tuple[TracedPicture, ...]
    columns: tuple[tuple[tuple[int, ...], ...], ...]
    """Of every picture, the token columns of its words."""

    def rows_with_prompt(self, states: Tensor) -> list[int]:
        """Rows of a forward that have the prompt, one for each picture; none where it has other texts."""
        if states.shape[1:] != self.embeddings.shape[1:]:
            return []
        known = self.embeddings.to(states.device, states.dtype)
        found = [row for row, state in enumerate(states) if any(torch.equal(state, each) for each in known)]
        # Where prompt and negative prompt are the same text, the negative one comes first.
        return found[-len(known) :] if len(found) >= len(known) else []


class _Sum:
    """Sums word maps over the sites of one forward; an observer of a probe."""

    def __init__(self, batch: _Batch, rows: Sequence[int], grids: Mapping[str | None, Grid], largest: Grid) -> None:
        self._batch, self._rows, self._grids, self._largest = batch, rows, grids, largest
        self._sums: list[Tensor | None] = [None] * len(rows)

    def __call__(self, module: str, observation: Observation) -> None:
        """Add the maps of a module, and let its observation go."""
        text, grid = observation.text, self._grids[module]
        assert text is not None
        for place, (row, columns) in enumerate(zip(self._rows, self._batch.columns, strict=True)):
            words = torch.stack([text[row][:, list(each)].mean(-1) for each in columns])
            maps = words.unflatten(1, (grid.height, grid.width))
            if grid != self._largest:
                size = (self._largest.height, self._largest.width)
                maps = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
            known = self._sums[place]
            self._sums[place] = maps if known is None else known + maps
        observation.text = None

    def means(self) -> list[Tensor]:
        """Of every picture, the mean over sites."""
        return [total.float().cpu() / len(self._grids) for total in self._sums if total is not None]


def _family(pipeline: Any) -> type[Backbone]:
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    for family in FAMILIES:
        has_second = getattr(pipeline, "text_encoder_2", None) is not None or hasattr(pipeline, "tokenizer_2")
        if isinstance(denoiser, family.denoiser_class) and (family is not StableDiffusionXL or has_second):
            return family
    names = ", ".join(family.pipeline_class.__name__ for family in FAMILIES)
    raise UserError(f"a {type(pipeline).__name__} cannot be traced", f"pipelines like these can: {names}")


def _set_text_length(backbone: Backbone, text_length: int) -> None:
    """Tell a backbone around a pipeline how long the texts are that its denoiser gets."""
    if isinstance(backbone, StableDiffusion3):
        backbone.t5_tokens = text_length - backbone.pipeline.tokenizer.model_max_length
    elif isinstance(backbone, Flux | PixArtSigma):
        backbone.text_tokens = text_length


def _row(backbone: Backbone, text: str, read: str) -> tuple[TracedPicture, tuple[tuple[int, ...], ...]]:
    """A picture of this prompt, and the columns of the words of what is read of it, as far as they have some."""
    words = words_of(read)
    streams = backbone.tokenize(Prompt(read, words))
    columns = [sum(parts, ()) for parts in zip(*(stream.classes for stream in streams), strict=True)]
    kept = [(word.name, each) for word, each in zip(words, columns, strict=True) if each]
    if not kept:
        raise UserError(f"the prompt {text!r} has no word", "name something in it")
    return TracedPicture(text, tuple(name for name, _ in kept)), tuple(each for _, each in kept)


def _grid(backbone: Backbone, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Grid:
    """The denoiser's pixels in a call."""
    if isinstance(backbone, Flux):
        ids = kwargs["img_ids"].reshape(-1, 3)
        # What Kontext draws after has ids of its own behind those of the picture.
        rows, columns = ids[ids[:, 0] == ids[0, 0], 1:].amax(0).tolist()
        return Grid(int(rows) + 1, int(columns) + 1)
    named = (kwargs.get(name) for name in ("hidden_states", "sample"))
    latent = next(each for each in (*args[:1], *named) if each is not None)
    return Grid(latent.shape[-2] // backbone.patch, latent.shape[-1] // backbone.patch)
