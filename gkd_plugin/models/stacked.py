"""Similar networks run together: one batched forward pass instead of one for each.

Their weights are laid on one another (``torch.func``), and the features, which they share, are read once for all. Gradients
arrive at each network's own weights. Networks are alike where their configurations differ in nothing but seeds, training,
dropout and distillation. One module's code runs for all of them: it may know nothing but parameters, buffers and its input, as
layers of torch, PyG and this package do. Before networks of a kind first run together, all of them are compared with
themselves alone.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import ParametrizationList
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import describe_error
from gkd_plugin.models.normalisation import normalised_once
from gkd_plugin.models.observed import ObservedModel, Request
from gkd_plugin.models.rng import random_state, set_random_state
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.sparse_input import SparseFeatures, is_table, reading
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.space.observation import Observation

OWN_KEYS = (
    "seed",
    "out_dir",
    "run_dir",
    "cfg_dest",
    "optim",
    "train",
    "params",
    "print",
    "round",
    "metric_best",
    "metric_agg",
)
"""Keys in which runs that are stacked may differ, with those of distillation and the rate of dropout."""
HOMES = ("torch.", "torch_geometric.", "gkd_plugin.")
"""The packages whose layers keep nothing beside their parameters and buffers."""
_NEAR = 1e-3  # of the largest logit: how far a network may be from itself alone


def list_keys(own: CfgNode | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key, by its dotted name, in which networks that run together must agree."""
    found: dict[str, Any] = {}
    for name, value in own.items():
        if prefix or not (name in OWN_KEYS or name == "kd" or name.startswith("kd_")):
            inner = isinstance(value, Mapping)
            found |= list_keys(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    found.pop("gnn.dropout", None)
    return found


def describe(model: ObservedModel) -> str:
    """What two networks must have in common to run together."""
    tensors = [
        (name, tuple(each.shape), str(each.dtype), str(each.device)) for name, each in _list_tensors(model.module)
    ]
    kinds = [f"{type(module).__module__}.{type(module).__qualname__}" for module in model.module.modules()]
    return json.dumps([list_keys(model.own), tensors, kinds, model.sparse_input], default=str, sort_keys=True)


def _list_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class Stacker:
    """Runs networks together where that can be done.

    Args:
        random (list of Tensor): The state of the random stream that dropout draws from.
    """

    def __init__(self, random: list[Tensor]) -> None:
        self._random = random
        self._kinds: WeakKeyDictionary[ObservedModel, str] = WeakKeyDictionary()
        self._obstacles: WeakKeyDictionary[ObservedModel, str | None] = WeakKeyDictionary()
        self._allowed: dict[str, bool] = {}
        self.told: dict[str, None] = {}

    def observe(self, requests: Sequence[Request], grads: Sequence[bool]) -> list[Observation | None]:
        """An observation for each request; ``None`` where the network has to be run alone.

        Args:
            requests (sequence of Request): What is asked for.
            grads (sequence of bool): For each, whether with gradient.
        """
        found: list[Observation | None] = [None] * len(requests)
        groups: dict[Any, list[int]] = {}
        for place, (request, grad) in enumerate(zip(requests, grads, strict=True)):
            reason = self._find_obstacle(request)
            if reason is not None:
                self.told[reason] = None
            else:
                kind, data = self._find_kind(request.model), _find_data(request.sample)
                groups.setdefault((kind, grad, request.model.module.training, request.taps, data), []).append(place)
        for (kind, grad, *_), places in groups.items():
            members = [requests[place] for place in places]
            if len(members) == 1 or not self._allow(kind, members):
                continue
            try:
                with self._drawing(), torch.set_grad_enabled(grad):
                    together = observe_stacked(members)
            except Exception as error:  # in training mode only, which the comparison has not seen; or too little memory
                self._allowed[kind] = False
                self.told[f"torch.func cannot stack them ({describe_error(error)})"] = None
                continue
            for place, request, seen in zip(places, members, together, strict=True):
                request.model.stacked = max(request.model.stacked, len(members))
                found[place] = seen
        return found

    def _find_obstacle(self, request: Request) -> str | None:
        if request.sample.task.level == "edge":
            return "pairs of nodes are decoded split by split"
        if request.model not in self._obstacles:
            self._obstacles[request.model] = find_own_ways(request.model)
        return self._obstacles[request.model]

    def _find_kind(self, model: ObservedModel) -> str:
        if model not in self._kinds:
            self._kinds[model] = describe(model)
        return self._kinds[model]

    def _allow(self, kind: str, members: Sequence[Request]) -> bool:
        if kind not in self._allowed:
            reason = find_difference(members)
            self._allowed[kind] = not reason
            if reason:
                self.told[reason] = None
        return self._allowed[kind]

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Dropout draws from one stream for all; afterwards the caller's stream is where it was."""
        before = random_state()
        set_random_state(self._random)
        try:
            yield
        finally:
            self._random = random_state()
            set_random_state(before)


def _find_data(sample: Sample) -> Any:
    """What is equal for samples that hold the same tensors, from whichever run; masks choose among a network's answers."""
    if not sample.fixed:
        return id(sample)
    tensors = {key: value for key, value in sample.batch.to_dict().items() if isinstance(value, Tensor)}
    seen = {key: value for key, value in tensors.items() if not key.endswith("_mask")}
    writes = tuple((key, value._version) for key, value in seen.items())
    return sample.remember(("content", writes), lambda: compute_digest(seen))


def find_own_ways(model: ObservedModel) -> str | None:
    """Why the code of one network may not do for another one's weights; ``None`` where it does.

    Args:
        model (ObservedModel): A network. A class outside of torch, PyG and this package says by ``gkd_stackable = True`` that its
            forward pass neither reads nor keeps anything beside parameters, buffers (written in place) and its input.
    """
    if model.moving:
        return "their graphs move: each network has edges of its own"
    for module in model.parts:
        kind = type(module)
        home = f"{kind.__module__}."
        if not home.startswith(HOMES) and not vars(kind).get("gkd_stackable", False):
            return (
                f"{kind.__module__}.{kind.__qualname__} is a class of your own, which may keep or read what belongs to one "
                "network (if it does not, write gkd_stackable = True in it)"
            )
        if module._forward_hooks or module._forward_pre_hooks or isinstance(module, ParametrizationList):
            return f"{kind.__qualname__} has hooks or parametrized weights"
        if "forward" in vars(module):
            return f"the forward method of one {kind.__qualname__} was exchanged"
    return None


def find_difference(members: Sequence[Request]) -> str | None:
    """Why networks cannot run together, seen in evaluation mode; ``None`` where all are what they are alone.

    Args:
        members (sequence of Request): Networks on one sample.
    """
    before = random_state()
    with ExitStack() as modes:
        for request in members:
            modes.enter_context(request.model.untouched())
        try:
            together = observe_stacked(members)
        except Exception as error:  # whatever a layer does that torch.func cannot
            logging.getLogger("gkd_plugin").debug("not stacked", exc_info=True)
            set_random_state(before)
            return f"torch.func cannot stack them ({describe_error(error)})"
        for request, seen in zip(members, together, strict=True):
            model = request.model
            with host.scoped(model.own):
                pred, _, _ = model.call(model.module, request.sample, (), request.split)
            far = float((pred - seen.logits).abs().max()) if pred.numel() else 0.0
            if not far <= _NEAR * max(1.0, float(pred.abs().max()) if pred.numel() else 1.0):
                set_random_state(before)
                return f"their logits are {far:.2g} from those of one alone"
    set_random_state(before)
    return None


def observe_stacked(members: Sequence[Request]) -> list[Observation]:
    """One batched forward pass of similar networks, with gradient where that is on.

    Args:
        members (sequence of Request): Networks of a kind in one mode, on samples with the same tensors.
    """
    first = members[0]
    model, sample = first.model, first.sample
    models = [request.model for request in members]
    weights = {name: torch.stack([each.weights[name] for each in models]) for name in model.weights}
    buffers = {name: torch.stack([each.buffers[name] for each in models]) for name in model.buffers}
    labels: list[Tensor] = []

    def run(weights: dict[str, Tensor], buffers: dict[str, Tensor], rates: dict[str, Tensor]) -> Any:
        def forward(batch: Any) -> Any:
            return functional_call(model.module, (weights, buffers), (batch,))

        with _dropping(model, rates):
            pred, true, hidden = model.call(forward, sample, first.taps, first.split)
        labels.append(true)
        return pred, hidden

    rates = _find_rates(models)
    with host.scoped(model.own), _sharing_work(model, first) as readers, warnings.catch_warnings():
        # of an operation without a rule for batches
        warnings.filterwarnings("ignore", message="There is a performance drop")
        preds, states = torch.vmap(run, in_dims=0, randomness="different")(weights, buffers, rates)
    if model.module.training:
        with torch.no_grad():
            for name, values in buffers.items():
                for each, value in zip(models, values.unbind(0), strict=True):
                    each.buffers[name].copy_(value)
    if model.sparse_input and sample.features is not None and torch.is_grad_enabled():
        for each in models:
            each.reads_dense |= not readers
    logits = preds.unbind(0)
    parts = {tap: [state.unbind(0) for state in found] for tap, found in states.items()}
    return [
        Observation(
            logits[place],
            {tap: tuple(layer[place] for layer in layers) for tap, layers in parts.items()},
            request.sample.graph(request.split),
            labels[0],
        )
        for place, request in enumerate(members)
    ]


@contextmanager
def _sharing_work(model: ObservedModel, request: Request) -> Iterator[list[nn.Module]]:
    """The features are mapped, and the graph is read, once for all networks."""
    sample, x = request.sample, request.sample.batch.get("x")
    with normalised_once(model.convolutions, sample.batch.edge_index, sample.remember):
        if not is_table(x):
            yield []
            return
        features = sample.features if model.sparse_input else None
        features = features or sample.remember("features_as_they_are", lambda: SparseFeatures(x, sparse=False))
        with reading(model.readers, features) as readers:
            yield readers


def _find_rates(models: Sequence[ObservedModel]) -> dict[str, Tensor]:
    """The rates of dropout by the layer's name, where the networks differ in them."""
    rates = {name: [float(model.dropouts[name].p) for model in models] for name in models[0].dropouts}
    device = next(models[0].module.parameters()).device
    return {name: torch.tensor(each, device=device) for name, each in rates.items() if len(set(each)) > 1}


@contextmanager
def _dropping(model: ObservedModel, rates: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, layers of dropout take their rate from a tensor."""

    def drop(layer: nn.Module, rate: Tensor, x: Tensor) -> Tensor:
        if not layer.training:
            return x
        kept = torch.rand_like(x) >= rate
        return x * kept / (1 - rate)

    try:
        for name, rate in rates.items():
            model.dropouts[name].forward = partial(drop, model.dropouts[name], rate)  # type: ignore[method-assign]
        yield
    finally:
        for name in rates:
            vars(model.dropouts[name]).pop("forward", None)


class Alone:
    """The like students of one run, run together.

    Args:
        random (list of Tensor): The state of the random stream that dropout draws from.
    """

    def __init__(self, random: list[Tensor]) -> None:
        self._stacker = Stacker(random)
        self.told = self._stacker.told

    def observe(self, requests: Sequence[Request]) -> list[Observation | None]:
        return self._stacker.observe(requests, [torch.is_grad_enabled()] * len(requests))

    def backward(self, totals: Sequence[Tensor], keep: bool) -> None:
        torch.autograd.backward(totals, retain_graph=keep)

    def differentiate(self, values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        return differentiate(values, weights)


def differentiate(values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradient for all weights of values that each depend on some of them, 0 where none reaches; the graph is kept.

    Args:
        values (sequence of Tensor): Scalars.
        weights (sequence of nn.Parameter): The weights.
    """
    found = torch.autograd.grad(list(values), list(weights), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if grad is None else grad for w, grad in zip(weights, found, strict=True)]
