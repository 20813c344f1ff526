"""Observes attention where torch computes it, without touching the denoiser's code.

Forward hooks tell which module runs; a torch function mode sees its ``scaled_dot_product_attention`` with
queries and keys after norms, rotary embedding and joint concatenation. At a watched module a function of the
caller's attends in its place and returns what it observed. Everywhere else torch's fused kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from segscale.errors import UserError

from .chunks import AttentionCall

ObservationT = TypeVar("ObservationT")
# Computes a module's attention in torch's place: returns its output, and what was observed on the way.
AttentionFn = Callable[[AttentionCall], tuple[Tensor, ObservationT]]
Observer = Callable[[str, ObservationT], None]


class AttentionProbe(TorchFunctionMode, Generic[ObservationT]):
    """A context manager around exactly one forward of a denoiser.

    After the context, ``observations`` holds one entry per watched module. A module that did not compute attention
    exactly once through torch raises UserError, naming the module.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        watched: Mapping[str, AttentionFn[ObservationT]],
        observer: Observer[ObservationT] | None = None,
    ) -> None:
        """Watch the modules of ``denoiser``.

        Args:
            denoiser: The network that runs inside the context.
            watched: What attends in torch's place, by qualified module name.
            observer: Told each module's name and observation as soon as it is complete; it may take things out.
        """
        super().__init__()
        self.denoiser = denoiser
        self.observer = observer
        self.watched = dict(watched)
        self.observations: dict[str, ObservationT] = {}
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> AttentionProbe[ObservationT]:
        """Hook the watched modules. Raises UserError for a name that the denoiser does not have."""
        modules = dict(self.denoiser.named_modules())
        if missing := sorted(self.watched.keys() - modules.keys()):
            raise UserError(
                f"{type(self.denoiser).__name__} has no module {missing[0]}", "list its sites with: segscale sites"
            )
        for name in self.watched:
            self._handles.append(modules[name].register_forward_pre_hook(self._entering(name)))
            self._handles.append(modules[name].register_forward_hook(self._leaving(name)))
        super().__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the hooks. Raises UserError for a module that never ran."""
        super().__exit__(exc_type, exc, traceback)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if exc is None and (silent := self.watched.keys() - self.observations.keys()):
            raise _not_observed(sorted(silent)[0], "never ran")

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if name in self.observations:
                raise _not_observed(name, "ran more than once")
            self._running.append(name)

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._running.pop()
            if name not in self.observations:
                raise _not_observed(name, "did not call torch's scaled_dot_product_attention")

        return hook

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Attend at a watched module; every other function of torch runs as it is."""
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or not self._running:
            return func(*args, **kwargs)
        name = self._running[-1]
        if name in self.observations:
            raise _not_observed(name, "called scaled_dot_product_attention more than once")
        output, observation = self.watched[name](AttentionCall(*args, **kwargs))
        self.observations[name] = observation
        if self.observer is not None:
            self.observer(name, observation)
        return output


def _not_observed(module: str, why: str) -> UserError:
    return UserError(
        f"attention of {module} cannot be observed: it {why}",
        "use the stock attention processor, without fused projections or another attention backend",
    )
