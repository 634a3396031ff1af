"""Teachers: trained models by run name, files of logits and hidden states, or a module; always frozen, always in
evaluation mode, never part of a student.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError
from gkd_plugin.models.observed import ObservedModel, Sample
from gkd_plugin.models.streams import Streams
from gkd_plugin.space.observation import Observation, Outline

FILES = (".npz", ".safetensors")


class Teacher(Protocol):
    """What the loop asks of a teacher."""

    name: str

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        """Logits and hidden states on a batch, without gradient."""

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        """Depth and widths."""


@dataclass(frozen=True)
class Record:
    """What a teacher's run says of it; the score is measured again before it teaches.

    Args:
        metric (str): The metric.
        val (float): Its validation score.
        where (Path): The file it stands in.
    """

    metric: str
    val: float
    where: Path


class ModelTeacher:
    """A trained network under its own cfg.

    On one fixed graph it is run once: logits and hidden states are kept for as long as the graph object lives.

    Args:
        name (str): The run's name.
        model (ObservedModel): Its network; frozen here.
        streams (Streams): For networks that draw also in evaluation.
        record (Record, optional): Its score.
    """

    def __init__(self, name: str, model: ObservedModel, streams: Streams, record: Record | None = None) -> None:
        self.name, self.model, self.streams, self.record = name, model, streams, record
        model.module.eval()
        model.module.requires_grad_(False)
        self._kept: tuple[Sample, frozenset[str], Observation] | None = None

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        wanted = frozenset(taps)
        if self._kept is not None and self._kept[0] is sample and wanted <= self._kept[1]:
            return self._kept[2]
        with torch.no_grad(), self.streams.use("teacher"), self.model.untouched():
            seen = self.model.observe(sample, sorted(wanted))
        self._kept = (sample, wanted, seen)
        return seen

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        return self.model.outline(self.observe(sample, taps))


class ModuleTeacher:
    """Any module that maps a batch to logits of every item, to ``(logits, labels)``, or to an :class:`Observation`.

    Args:
        module (nn.Module): The module; run in evaluation mode without gradient, and otherwise left as it is.
        streams (Streams): For what it draws.
    """

    name = "module"

    def __init__(self, module: nn.Module, streams: Streams) -> None:
        self.module, self.streams = module, streams

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad(), self.streams.use("teacher"):
                found = self.module(copy.copy(sample.batch))
        finally:
            for part, mode in modes:
                part.training = mode
        if isinstance(found, Observation):
            seen = found.detached()
        else:
            logits = found[0] if isinstance(found, (tuple, list)) else found
            seen = Observation(logits.detach(), {}, sample.graph("train"))
        return _checked(seen, sample, taps, "the module")

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        return _stored_outline(self.observe(sample, taps))


class StoredTeacher:
    """Logits and hidden states by node id, from a ``.npz`` or ``.safetensors`` file.

    The file holds ``logits`` ``[N, C]`` and, where layers are compared, ``layer_1`` ... ``layer_L`` ``[N, d]``; rows are
    in the order of node ids, or ``node_id`` ``[N]`` says which node each row is. Every tap reads the same layers.

    Args:
        path (Path): The file.

    Raises:
        UserError: If it cannot be read without running code, lacks ``logits``, or holds rows that are not finite.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.path = path.name, path
        arrays = _read_arrays(path)
        if "logits" not in arrays:
            raise UserError(
                f"kd.teacher: {path} holds {', '.join(arrays) or 'nothing'}; it needs 'logits' [nodes, classes]."
            )
        names = sorted((n for n in arrays if n.startswith("layer_")), key=lambda n: int(n.removeprefix("layer_")))
        ids = arrays.get("node_id")
        rows = len(arrays["logits"])
        order = torch.arange(rows) if ids is None else torch.argsort(ids.long())
        if ids is not None and not torch.equal(ids.long()[order], torch.arange(rows)):
            raise UserError(f"kd.teacher: node_id in {path} must name each of the nodes 0 to {rows - 1} once.")
        for name in ("logits", *names):
            if len(arrays[name]) != rows:
                raise UserError(f"kd.teacher: {name} in {path} has {len(arrays[name])} rows, logits has {rows}.")
            broken = ~torch.isfinite(arrays[name].reshape(rows, -1)).all(dim=1)
            if bool(broken.any()):
                where = ", ".join(str(i) for i in broken.nonzero().view(-1)[:5].tolist())
                raise UserError(
                    f"kd.teacher: {name} in {path} has {int(broken.sum())} rows with NaN or infinity (row {where})."
                )
        self.logits = arrays["logits"].float()[order]
        self.layers = tuple(arrays[name].float()[order] for name in names)

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        graph = sample.graph("train")
        device = sample.batch.edge_index.device
        rows = graph.node_id.cpu() if graph.node_id is not None else slice(None)
        if graph.node_id is None and len(self.logits) != graph.num_nodes:
            raise UserError(
                f"kd.teacher: {self.path} has {len(self.logits)} rows, the graph {graph.num_nodes} nodes; every node needs one."
            )
        if graph.node_id is not None and int(graph.node_id.max()) >= len(self.logits):
            raise UserError(f"kd.teacher: {self.path} has no row for node {int(graph.node_id.max())}.")
        states = tuple(layer[rows].to(device) for layer in self.layers)
        hidden = {tap: states for tap in taps} if states else {}
        return _checked(Observation(self.logits[rows].to(device), hidden, graph), sample, taps, str(self.path))

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        return _stored_outline(self.observe(sample, taps))


def _stored_outline(seen: Observation) -> Outline:
    depth = max((len(states) for states in seen.hidden.values()), default=0)
    return Outline.of(seen, depth)


def _checked(seen: Observation, sample: Sample, taps: Iterable[str], what: str) -> Observation:
    missing = [tap for tap in taps if tap not in seen.hidden]
    if missing:
        raise UserError(
            f"kd.teacher: {what} gives no hidden states, but layers are compared at tap {', '.join(missing)}. "
            "Add layer_1 ... layer_L, or distil logits only (kd_response)."
        )
    if sample.task.level == "node" and len(seen.logits) != sample.graph("train").num_nodes:
        raise UserError(
            f"kd.teacher: {what} gives {len(seen.logits)} rows of logits for {sample.graph('train').num_nodes} nodes; "
            "every node needs one."
        )
    return seen


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(np.array(file[name])) for name in file.files}
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise UserError(f"kd.teacher: {path} needs the package safetensors: pip install safetensors.") from None
        found: dict[str, Tensor] = load_file(path)
        return found
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file raises; pickled arrays are refused here too
        raise UserError(
            f"kd.teacher: {path} cannot be read as plain arrays ({type(error).__name__}: {error})."
        ) from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file of ours or a checkpoint of the host's, without running what it may hold.

    Raises:
        UserError: If it is no tensor file, or holds pickled code.
    """
    try:
        found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UserError(
            f"kd.teacher: {path} is no tensor file, or holds pickled code, which is never run "
            f"({type(error).__name__}: {str(error).splitlines()[0][:120]})."
        ) from None
    weights = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"kd.teacher: {path} holds no state dict.")
    return dict(weights)


def build_teacher(
    name: str, own: CfgNode, weights: Path, record: Record, streams: Streams, layers: str | None
) -> ModelTeacher:
    """The network of a run under its own cfg, with its weights.

    Args:
        name (str): The run's name.
        own (CfgNode): Its configuration; ``share`` holds the present data set's dimensions.
        weights (Path): Its weights.
        record (Record): Its validation score.
        streams (Streams): The run's streams.
        layers (str, optional): ``kd.layers`` of the teacher's own run.

    Raises:
        UserError: If the network cannot be built or the weights do not fit it.
    """
    from torch_geometric.graphgym.model_builder import create_model

    device = torch.device(host.cfg.accelerator if host.cfg.accelerator != "auto" else "cpu")
    with host.scoped(own), streams.use("teacher"):
        module = create_model(to_device=False)
    try:
        module.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UserError(
            f"kd.teacher: the weights in {weights} do not fit the network that {name} describes on this data set: "
            f"{' '.join(lines)}"
        ) from None
    return ModelTeacher(name, ObservedModel(module.to(device), own, layers), streams, record)
