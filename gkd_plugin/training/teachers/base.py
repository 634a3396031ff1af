"""Teachers: trained models by run name, files of logits and hidden states, or a module; always frozen, always in
evaluation mode, never part of a student.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError, describe_error, find_place
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.own import call_module
from gkd_plugin.models.rng import RandomStreams, has_drawn, random_state
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation, Outline

# a share of the way from all classes alike to certainty; students of less sure teachers fell behind labels only (CiteSeer)
_SURE = 0.15


class Teacher(Protocol):
    """What the loop asks of a teacher."""

    name: str

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        """Logits and hidden states on a batch, without gradient."""

    def outline(self, seen: Observation) -> Outline:
        """Depth and widths, read off an observation."""


@dataclass(frozen=True)
class Record:
    """What a teacher's run recorded; the score is measured again before the teacher is used.

    Args:
        metric (str): The metric.
        val (float): Its validation score.
        where (Path): Its file.
        better (bool): Whether more of it is better.
    """

    metric: str
    val: float
    where: Path
    better: bool = True


class ModelTeacher:
    """A trained network under its own cfg.

    Args:
        name (str): The run's name.
        model (ObservedModel): Its network; frozen here.
        streams (RandomStreams): For networks that draw also in evaluation.
        record (Record): Its score.
    """

    def __init__(self, name: str, model: ObservedModel, streams: RandomStreams, record: Record) -> None:
        self.name, self.model, self.streams, self.record = name, model, streams, record
        self.drew = False  # whether its last reading drew random numbers
        model.module.eval()
        model.module.requires_grad_(False)

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        wanted = sorted(set(taps))
        if wanted and not self.model.depth:
            names = ", ".join(name for name, _ in self.model.network.named_modules() if name)
            raise UserError(
                f"kd.teacher: layers are compared, but the network of {self.name} (model.type: {self.model.own.model.type}) "
                f"has no part called 'mp', and neither its own kd.layers nor the student's names its layers ({names}). "
                "Set a kd.layers that fits both networks, give its hidden states as a file or a module "
                "(docs/teachers.md), or distil logits only (kd_response)."
            )
        with self.streams.use("teacher"), self.model.untouched():
            before = random_state()
            seen = self.model.observe(sample, wanted)
            self.drew = has_drawn(before)
        return seen

    def outline(self, seen: Observation) -> Outline:
        return self.model.outline(seen)


class ModuleTeacher:
    """Any module that maps a batch, or ``(x, edge_index, ...)`` as PyG's models do, to logits of every item, to
    ``(logits, labels)``, or to an :class:`Observation`.

    Args:
        module (nn.Module): The module; run in evaluation mode without gradient, and otherwise left as it is.
        streams (RandomStreams): For what it draws.
    """

    name = "module"

    def __init__(self, module: nn.Module, streams: RandomStreams) -> None:
        self.module, self.streams = module, streams
        self.title = str(getattr(module, "title", type(module).__name__))

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        modes = [(part, part.training) for part in self.module.modules()]
        before = _read_versions(sample)
        self.module.eval()
        try:
            with torch.no_grad(), self.streams.use("teacher"):
                found = call_module(self.module, sample.batch, sample.task.level)
        except (UserError, torch.cuda.OutOfMemoryError):  # memory may be there for the next seed
            raise
        except Exception as error:  # it would fail for every seed alike
            x = getattr(sample.batch, "x", None)
            data = f"these data (x: {' x '.join(map(str, x.shape))})" if isinstance(x, Tensor) else "these data"
            raise UserError(
                f"teacher=: the module failed on {data}: {describe_error(error)} ({find_place(error)}). Is it the one that "
                "was trained on them?"
            ) from error
        finally:
            for part, mode in modes:
                part.training = mode
        written = sorted(
            name for name, version in _read_versions(sample).items() if before.get(name, version) != version
        )
        if written:
            raise UserError(
                f"teacher=: the module writes into {', '.join(written)} of the data that it is given (such as x *= 0.5 or x.add_(1)), "
                "which its students read, too. Make its forward compute new tensors: x = x * 0.5."
            )
        if isinstance(found, Observation):
            seen = found.detached()
        else:
            logits = found[0] if isinstance(found, (tuple, list)) and found else found
            if not isinstance(logits, Tensor):
                raise UserError(
                    f"teacher=: the module returned {type(found).__name__}. It must give logits of every item "
                    "(a tensor), to (logits, labels), or to a gkd_plugin.space.observation.Observation."
                )
            seen = Observation(logits.detach(), {}, sample.graph("train"))
        return check_observation(seen, sample, taps, "teacher=: the module")

    def outline(self, seen: Observation) -> Outline:
        return make_outline(seen)


def _read_versions(sample: Sample) -> dict[str, int]:
    """How often each tensor of a batch was written into."""
    content = sample.batch.to_dict().items()
    return {name: each._version for name, each in content if isinstance(each, Tensor) and not each.is_inference()}


def list_content(module: nn.Module) -> list[Any]:
    """What tells one module from another: the class, weights and tensors of each of its parts.

    Args:
        module (nn.Module): The module. Private attributes are left out: they hold what a layer keeps for its next call.
    """
    found: list[Any] = [module.state_dict()]
    for name, part in module.named_modules():
        kept = {key: value for key, value in vars(part).items() if isinstance(value, Tensor) and key[0] != "_"}
        found.append([name, type(part).__module__, type(part).__qualname__, kept])
    return found


def make_outline(seen: Observation) -> Outline:
    """The outline of a teacher that is known by its hidden states only."""
    return Outline.of(seen, max((len(states) for states in seen.hidden.values()), default=0))


def check_observation(seen: Observation, sample: Sample, taps: Iterable[str], what: str) -> Observation:
    """Checks the shapes and values of an observation by a teacher that this package did not build.

    Args:
        seen (Observation): What it gave.
        sample (Sample): On which batch.
        taps (iterable of str): The taps that terms read.
        what (str): How an error begins.

    Raises:
        UserError: If hidden states or rows are missing, or numbers are not finite.
    """
    missing = [tap for tap in taps if not seen.hidden.get(tap)]
    if missing:
        raise UserError(
            f"{what} gives no hidden states, but layers are compared at tap {', '.join(missing)}. "
            "Give them too (docs/teachers.md), or distil logits only (kd_response)."
        )
    nodes = sample.graph("train").num_nodes
    named = [("hidden states", state) for states in seen.hidden.values() for state in states]
    if sample.task.level == "node":
        named.append(("logits", seen.logits))
    for name, rows in named:
        if rows.dim() == 0 or len(rows) != nodes:
            count = 0 if rows.dim() == 0 else len(rows)
            raise UserError(f"{what} gives {count} rows of {name} for {nodes} nodes; every node needs one.")
    for name, rows in [*named, ("logits", seen.logits)]:
        if not bool(torch.isfinite(rows).all()):
            raise UserError(f"{what} gives {name} with NaN or infinity.")
    for tap in taps if seen.graphs else ():
        if len(seen.graphs) != len(seen.hidden[tap]):
            raise UserError(
                f"{what} gives {len(seen.graphs)} graphs for {len(seen.hidden[tap])} layers; each needs its own."
            )
    return seen


def doubt_logits(name: str, logits: Tensor, kind: str) -> str:
    """What is to be said where a teacher's logits look like probabilities, of which a softmax is nearly uniform.

    Args:
        name (str): The teacher's name.
        logits (Tensor): What it gives for logits.
        kind (str): What is predicted, such as ``multiclass``.
    """
    if kind == "regression" or not len(logits) or not bool((logits >= 0).all() and (logits <= 1).all()):
        return ""
    signs, inverse = "all lie between 0 and 1", "log(p / (1 - p))"
    if kind == "multiclass" and bool(((logits.sum(-1) - 1).abs() < 1e-3).all()):
        signs, inverse = "each row is at least 0 and sums to 1", "log(p)"
    return (
        f"kd.teacher: the logits of {name} look like probabilities p: {signs}. What comes before any softmax or sigmoid is "
        f"expected; {inverse} gives it back."
    )


def doubt_sureness(name: str, logits: Tensor, kind: str) -> str:
    """What is to be said where a teacher's probabilities are nearly the same for all classes: such targets teach little.

    Args:
        name (str): The teacher's name.
        logits (Tensor): What it gives for logits.
        kind (str): What is predicted, such as ``multiclass``.
    """
    if kind != "multiclass" or not len(logits):
        return ""
    largest, even = float(logits.softmax(dim=-1).max(dim=-1).values.mean()), 1 / logits.size(-1)
    if largest - even >= _SURE * (1 - even):
        return ""
    return (
        f"kd.teacher: {name} is sure of nothing: its largest probability is {largest:.2f} on average, where {even:.2f} would be "
        f"all {logits.size(-1)} classes alike. Such soft targets teach little. Sharpen them: kd_response.sharpen 0.1 or less."
    )


def load_weights(path: Path, whose: str = "kd.teacher") -> dict[str, Tensor]:
    """The weights in a file of ours or a checkpoint of the host's, without running code in it.

    Args:
        path (Path): The file.
        whose (str): With what a message begins.

    Raises:
        UserError: If it is missing, not a tensor file, or contains pickled code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about how a refused file was pickled
            found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise UserError(f"{whose}: the weights {path} are missing. Train that seed again.") from None
    except Exception as error:  # whatever a damaged or foreign file raises
        raise UserError(
            f"{whose}: {path} is not a tensor file, or contains pickled code, which is never run ({describe_error(error)}). "
            "Train that seed again."
        ) from None
    weights = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{whose}: {path} contains no state dict. Train that seed again.")
    return dict(weights)


def build_teacher(
    name: str,
    own: CfgNode,
    weights: Path,
    record: Record,
    streams: RandomStreams,
    device: torch.device,
    layers: str | None = None,
) -> ModelTeacher:
    """The network of a run under its own cfg, with its weights.

    Args:
        name (str): The run's name.
        own (CfgNode): Its configuration; ``share`` holds the present data set's dimensions.
        weights (Path): Its weights.
        record (Record): Its validation score.
        streams (RandomStreams): The run's streams.
        device (torch.device): Where the students are.
        layers (str, optional): The students' ``kd.layers``, which serves a network without ``mp`` whose run names none.

    Raises:
        UserError: If the network cannot be built or the weights do not fit it.
    """
    from torch_geometric.graphgym.model_builder import create_model

    state = load_weights(weights)
    try:
        with host.scoped(own), streams.use("teacher"):
            module = create_model(to_device=False)
    except Exception as error:  # users' networks may raise anything
        raise UserError(
            f"kd.teacher: the network of {name} (model.type: {own.model.type}) cannot be built here "
            f"({type(error).__name__}: {error}). Register its parts here, as its own run did."
        ) from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UserError(
            f"kd.teacher: the weights in {weights} do not fit the network that {name} describes on this data set: "
            f"{' '.join(lines)} Its data set, layers or classes have changed since; train it again under another name."
        ) from None
    named = own.kd.get("layers")
    model = ObservedModel(module.to(device), own, None if named in (None, "none") else str(named))
    if layers is not None and not model.depth and model.matches(layers):
        own.kd.layers = layers  # it decides what is observed, and with that what a stored observation serves
        model = ObservedModel(module, own, layers)
    return ModelTeacher(name, model, streams, record)
