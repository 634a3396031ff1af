"""A model under its own cfg, observed from outside: one forward pass gives one :class:`Observation`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError, nearest
from gkd_plugin.models.messages import find_senders, sent_in_parts
from gkd_plugin.models.normalisation import find_convolutions, normalised_once
from gkd_plugin.models.sample import Sample, infer_task
from gkd_plugin.models.sparse_input import find_layers, reading
from gkd_plugin.space.observation import Observation, Outline

T = TypeVar("T")
EDGES = "edges"  # beside the taps: what each layer of a moving graph leaves in its batch


@dataclass(frozen=True, eq=False)
class Request:
    """A forward pass that is asked for: a model in its present mode, on a sample."""

    model: ObservedModel
    sample: Sample
    taps: tuple[str, ...]
    split: str = "train"


class Together(Protocol):
    """Who runs networks, those of other runs perhaps too, in one pass."""

    @property
    def told(self) -> Mapping[str, None]:
        """Why networks had to be run alone, in words."""

    def observe(self, requests: Sequence[Request]) -> Sequence[Observation | None]:
        """An observation for each request; ``None`` where the network has to be run alone."""

    def backward(self, totals: Sequence[Tensor], keep: bool) -> None:
        """The gradients of several objectives; ``keep`` says that the graph is needed again."""

    def differentiate(self, values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        """The gradient for all weights of values that each depend on some of them; the graph is kept."""


def _read_rows(value: Any) -> Tensor:
    """The node states in what a module takes or returns: a tensor, a batch, or a tuple that starts with one."""
    while isinstance(value, (tuple, list)):
        value = value[0]
    return value if isinstance(value, Tensor) else value.x


class ObservedModel:
    """A network, the configuration it was made from, and its layers.

    Args:
        module (nn.Module): Maps a batch to ``(pred, true)``; the host's ``GraphGymModule`` or a bare network.
        own (CfgNode): The configuration it was made from; it is in force during every forward pass.
        layers (str, optional): Pattern of module names for networks without ``mp`` (``kd.layers``).
        sparse_input (bool): Whether its layers read features sparsely on samples that offer it.
        eval_memory (float): GiB that the messages of one of its layers may take where there is no gradient.

    Attributes:
        reads_dense (bool): Whether it was trained on such a sample and no layer of it could.
        together (Together, optional): Who runs it beside similar networks, in one pass.
        stacked (int): The largest number of networks, itself included, that ran in one pass.

    Raises:
        UserError: If the pattern matches no module, or there is neither a pattern nor ``mp``.
    """

    def __init__(
        self,
        module: nn.Module,
        own: CfgNode,
        layers: str | None = None,
        sparse_input: bool = False,
        eval_memory: float = 1.0,
    ) -> None:
        self.module, self.own, self.eval_memory = module, own, eval_memory
        self.task = infer_task(own)
        self.network: nn.Module = getattr(module, "model", module)
        self.sparse_input, self.reads_dense = sparse_input, False
        self.together: Together | None = None
        self.stacked = 1
        self.convolutions = find_convolutions(self.network)
        self.moving = bool(getattr(type(self.network), "gkd_moving", False))
        self.stage: nn.Module | None = None
        self._layers: list[nn.Module] | None = None
        if layers is not None:
            self._layers = self._match(layers)
        elif isinstance(stage := getattr(self.network, "mp", None), nn.Module):
            self.stage, self._layers = stage, list(stage.children())

    @cached_property
    def parts(self) -> list[nn.Module]:
        """The network and all modules in it."""
        return list(self.module.modules())

    @cached_property
    def weights(self) -> dict[str, nn.Parameter]:
        """The network's parameters by name."""
        return dict(self.module.named_parameters())

    @cached_property
    def buffers(self) -> dict[str, Tensor]:
        """The network's buffers by name."""
        return dict(self.module.named_buffers())

    @cached_property
    def readers(self) -> list[nn.Module]:
        """The layers that can read the features of a sample in a way of their own."""
        return find_layers(self.network)

    @cached_property
    def senders(self) -> list[MessagePassing]:
        """The layers that can send their messages in parts."""
        return find_senders(self.network)

    @cached_property
    def dropouts(self) -> dict[str, nn.Dropout]:
        """The layers of dropout by name."""
        return {name: module for name, module in self.module.named_modules() if isinstance(module, nn.Dropout)}

    @property
    def layers(self) -> list[nn.Module]:
        """The layers that knowledge can be read from, in order; the classifier does not count."""
        if self._layers is None:
            raise UserError(
                f"kd.layers: the network '{self.own.model.type}' has no part called 'mp', so its layers must be named. "
                f"Give a pattern of module names; there are: {', '.join(self._list_names())}."
            )
        return self._layers

    @property
    def depth(self) -> int:
        """Number of layers (0 for a network whose layers are not named)."""
        return len(self._layers or ())

    def _list_names(self) -> list[str]:
        return [name for name, _ in self.network.named_modules() if name]

    def matches(self, pattern: str) -> list[nn.Module]:
        """The modules that a pattern of names means, in order."""
        # "layers.*" means the entries of `layers`, not everything below them
        return [
            module
            for name, module in self.network.named_modules()
            if name and name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)
        ]

    def _match(self, pattern: str) -> list[nn.Module]:
        found = self.matches(pattern)
        if not found:
            names = self._list_names()
            raise UserError(
                f"kd.layers: no module is called '{pattern}'. {nearest(pattern, names)}There are: {', '.join(names)}."
            )
        return found

    def outline(self, seen: Observation) -> Outline:
        """Depth and widths, read off an observation."""
        return Outline.of(seen, self.depth)

    def observe(self, sample: Sample, taps: Iterable[str] = (), split: str = "train") -> Observation:
        """One forward pass in the model's present mode, with gradient where that is on.

        Args:
            sample (Sample): The batch; it is left as it is.
            taps (iterable of str): Which of ``conv``, ``layer``, ``stage`` to record.
            split (str): The split whose pairs are decoded; only edge tasks need it.
        """
        if self.together is not None:
            (seen,) = self.together.observe([Request(self, sample, tuple(taps), split)])
            if seen is not None:
                return seen
        with host.scoped(self.own), self._saving_work(sample):
            pred, true, hidden = self.call(self.module, sample, taps, split)
        graph, edges = sample.graph(split), hidden.pop(EDGES, ())
        return Observation(pred, hidden, graph, true, graphs=tuple(graph.moved(each) for each in edges))

    def call(
        self, module: Callable[[Batch], Any], sample: Sample, taps: Iterable[str], split: str
    ) -> tuple[Tensor, Tensor, dict[str, tuple[Tensor, ...]]]:
        """Predictions, labels and hidden states of one forward pass, with each layer's edges where its graph moves.

        Args:
            module (callable): The network, or what runs it with other weights.
            sample, taps, split: As for :meth:`observe`.
        """
        batch = copy.copy(sample.batch)
        if sample.task.level != "edge" and "split" in batch:
            del batch.split  # without it the host's head returns every row
        if sample.task.level == "edge":
            batch.split = split
        with self._recording(taps) as states:
            try:
                pred, true = module(batch)
            except (AttributeError, KeyError) as error:
                if "split" not in batch and "split" in str(error):
                    raise UserError(
                        f"gnn.head: '{self.own.gnn.head}' (model.type: {self.own.model.type}) reads batch.split, which is not "
                        "there. A head must return the logits and labels of every row where batch.split is absent, as the "
                        "host's own do (docs/models.md, your own network)."
                    ) from error
                raise
        return pred, true, self._complete(states)

    def observe_splits(self, sample: Sample, taps: Iterable[str], splits: Iterable[str]) -> Mapping[str, Observation]:
        """One observation for each split from one forward pass (edge tasks decode each from the same hidden states)."""
        splits = tuple(splits)
        if sample.task.level != "edge":
            seen = self.observe(sample, taps)
            return dict.fromkeys(splits, seen)
        head = getattr(self.network, "post_mp", None)
        if head is None:
            return {split: self.observe(sample, taps, split) for split in splits}
        inputs: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _module, args: inputs.append(_read_rows(args)))
        try:
            first = self.observe(sample, taps, splits[0])
        finally:
            handle.remove()
        found = {splits[0]: first}
        for split in splits[1:]:
            batch = copy.copy(sample.batch)
            batch.x, batch.split = inputs[0], split
            with host.scoped(self.own):
                pred, true = head(batch)
            found[split] = Observation(pred, first.hidden, sample.graph(split), true, graphs=first.graphs)
        return found

    def set_mode(self, train: bool) -> None:
        """Training mode or evaluation mode, as ``module.train`` sets it."""
        if all(type(module).train is nn.Module.train for module in self.parts):
            for module in self.parts:
                vars(module)["training"] = train  # past torch's own __setattr__, which costs more than all else here
        else:  # one has its own way
            self.module.train(train)

    @contextmanager
    def untouched(self, train: bool = False) -> Iterator[None]:
        """Reads the model in evaluation mode (or training mode) without gradient, then restores modes and buffers."""
        modes = [(module, module.training) for module in self.parts]
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()] if train else []
        self.set_mode(train)
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                vars(module)["training"] = mode
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)

    @contextmanager
    def _saving_work(self, sample: Sample) -> Iterator[None]:
        """What does not depend on weights is taken from the sample; messages without a gradient need not fit at once."""
        senders = [] if torch.is_grad_enabled() else self.senders
        with (
            normalised_once(self.convolutions, sample.batch.edge_index, sample.remember),
            sent_in_parts(senders, self.eval_memory * 2**30),
        ):
            if not self.sparse_input or sample.features is None:
                yield
                return
            with reading(self.readers, sample.features) as readers:
                yield
            self.reads_dense |= torch.is_grad_enabled() and not readers

    @contextmanager
    def _recording(self, taps: Iterable[str]) -> Iterator[dict[str, list[Tensor | None]]]:
        """Hooks that live during one forward pass only: a deep copy of the model would carry them along."""
        states: dict[str, list[Tensor | None]] = {tap: [None] * len(self.layers) for tap in taps}
        if states and self.moving:
            states[EDGES] = [None] * len(self.layers)
        handles = []

        def keep(tap: str, index: int, clone: bool) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                rows = _read_rows(output)  # at once: all layers write into one batch
                states[tap][index] = rows.clone() if clone else rows

            return hook

        def keep_input(index: int) -> Callable[..., None]:
            def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
                states["stage"][index] = _read_rows(args or tuple(kwargs.values()))

            return hook

        def keep_edges(index: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                states[EDGES][index] = getattr(output, "edge_index", None)

            return hook

        try:
            for index, layer in enumerate(self.layers if states else ()):
                if self.moving:
                    handles.append(layer.register_forward_hook(keep_edges(index)))
                if "conv" in states:  # an in-place activation would overwrite it
                    convolution = getattr(layer, "layer", layer)
                    handles.append(convolution.register_forward_hook(keep("conv", index, True)))
                if "layer" in states:
                    handles.append(layer.register_forward_hook(keep("layer", index, False)))
                if "stage" in states and index > 0:
                    handles.append(layer.register_forward_pre_hook(keep_input(index - 1), with_kwargs=True))
            if "stage" in states:
                last = self.stage if self.stage is not None else self.layers[-1]
                handles.append(last.register_forward_hook(keep("stage", len(self.layers) - 1, False)))
            yield states
        finally:
            for handle in handles:
                handle.remove()

    def _complete(self, states: dict[str, list[Tensor | None]]) -> dict[str, tuple[Tensor, ...]]:
        hidden: dict[str, tuple[Tensor, ...]] = {}
        for tap, found in states.items():
            missing = [str(index) for index, state in enumerate(found, 1) if state is None]
            if missing and tap == EDGES:
                raise UserError(
                    f"model.type: '{self.own.model.type}' says gkd_moving, but its layer {', '.join(missing)} returns no batch with "
                    "the edge_index that it used."
                )
            if missing:
                raise UserError(
                    f"tap {tap}: layer {', '.join(missing)} of '{self.own.model.type}' was not run in its forward pass. "
                    "Name modules that are called (kd.layers)."
                )
            hidden[tap] = tuple(state for state in found if state is not None)
        return hidden
