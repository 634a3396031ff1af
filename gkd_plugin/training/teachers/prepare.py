"""A teacher made ready for one run: found, rebuilt, checked against the data, measured again, and read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.graphgym.logger import infer_task
from torch_geometric.utils import subgraph
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.data.load import load
from gkd_plugin.data.loaders import per_split
from gkd_plugin.data.own import names_function
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import SPLITS, Sample
from gkd_plugin.models.sample import infer_task as observed_task
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.plan import Plan
from gkd_plugin.printing import tell
from gkd_plugin.space.observation import Graph, Observation, Outline
from gkd_plugin.space.sources import listening
from gkd_plugin.training.batches import SplitLoader, make_split_loaders, whole_graph
from gkd_plugin.training.evaluation import evaluate
from gkd_plugin.training.metrics import ERRORS
from gkd_plugin.training.protocol import sees_part
from gkd_plugin.training.result import RESULT
from gkd_plugin.training.seed_files import is_as_written
from gkd_plugin.training.stored_config import own_cfg
from gkd_plugin.training.teachers import search
from gkd_plugin.training.teachers.base import (
    ModelTeacher,
    ModuleTeacher,
    Teacher,
    build_teacher,
    doubt_logits,
    doubt_sureness,
    list_content,
    load_weights,
)
from gkd_plugin.training.teachers.cache import Store, key_of
from gkd_plugin.training.teachers.file import StoredTeacher

# what makes two configurations read the same graphs
_SAME_DATA = ("format", "name", "task", "task_type", "node_encoder", "edge_encoder")


class PreparedTeacher:
    """A teacher and the graph it sees. On one fixed graph it is read once, for as long as the run lasts.

    Args:
        teacher (Teacher): The teacher.
        graph (Sample, optional): The fixed graph it sees; ``None`` reads it on every batch of the students, with the
            edges that are hidden from them.
        own_edges (bool): Whether the graph has other edges than the students'.
        store (Store, optional): Keeps its observations for later runs.
        soft (bool): Whether its probabilities teach as they are.

    Attributes:
        doubt (str): What is probably wrong with its logits, once they are known.
    """

    def __init__(
        self,
        teacher: Teacher,
        graph: Sample | None = None,
        own_edges: bool = False,
        store: Store | None = None,
        soft: bool = False,
    ) -> None:
        self.teacher, self.graph, self.own_edges, self.store = teacher, graph, own_edges, store
        self.soft, self.doubt = soft, ""
        self._last: tuple[Sample, frozenset[str], Observation] | None = None

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        """The teacher on a batch of the students; of a part of the fixed graph, the rows of its nodes."""
        its, wanted = self.graph or sample.whole or sample, frozenset(taps)
        if self._last is None or self._last[0] is not its or not wanted <= self._last[1]:
            first, self._last = self._last is None, (its, wanted, self._read(its, wanted))
            if first and not isinstance(self.teacher, ModelTeacher):
                self._take_doubt(doubt_logits(self.name, self._last[2].logits, sample.task.kind))
            if first and self.soft and not self.doubt:
                self._take_doubt(doubt_sureness(self.name, self._last[2].logits, sample.task.kind))
        seen, ids = self._last[2], sample.graph("train").node_id
        return seen if self.graph is None or ids is None else self._take_part(seen, sample, ids)

    def _take_doubt(self, text: str) -> None:
        self.doubt = text
        if text:
            tell(text)

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        """Depth and widths of the teacher."""
        return self.teacher.outline(self.observe(sample, taps))

    @property
    def name(self) -> str:
        """Its name."""
        return self.teacher.name

    @property
    def about(self) -> dict[str, Any]:
        """What a run's result records of its teacher."""
        if isinstance(self.teacher, ModelTeacher):
            record = self.teacher.record
            return {"name": self.teacher.name, "from": str(record.where), "metric": record.metric, "val": record.val}
        if isinstance(self.teacher, ModuleTeacher):
            return {"name": self.teacher.name, "class": self.teacher.title}
        return {"name": self.teacher.name}

    def _read(self, sample: Sample, taps: frozenset[str]) -> Observation:
        if self.store is None or self.graph is None or not isinstance(self.teacher, ModelTeacher):
            return self.teacher.observe(sample, taps)
        key = key_of(self.teacher.model, sample, taps)
        seen = self.store.load(key, sample)
        if seen is None:
            seen = self.teacher.observe(sample, taps)
            if self.teacher.drew:  # what is drawn belongs to this run's seed
                return seen
            seen = self.store.save(key, seen, sample)
        return replace(seen, keep=self.store.keep(key, sample.batch.edge_index.device))

    def _take_part(self, seen: Observation, sample: Sample, ids: torch.Tensor) -> Observation:
        graph = sample.graph("train")
        if self.own_edges:
            graph = Graph(_take_edges(seen.graph, ids), graph.num_nodes, graph.train_mask, graph.batch, ids)
        graphs = tuple(graph.moved(_take_edges(each, ids)) for each in seen.graphs)
        hidden = {tap: tuple(state[ids] for state in states) for tap, states in seen.hidden.items()}
        labels = seen.labels[ids] if seen.labels is not None else None
        return Observation(seen.logits[ids], hidden, graph, labels, graphs=graphs)


def _take_edges(graph: Graph, ids: torch.Tensor) -> torch.Tensor:
    edges: torch.Tensor = subgraph(ids, graph.edge_index, relabel_nodes=True, num_nodes=graph.num_nodes)[0]
    return edges


def list_names(plan: Plan) -> tuple[str, ...]:
    """The names of a plan's teachers."""
    return plan["teacher"] if isinstance(plan["teacher"], tuple) else (search.teacher_name(plan),)


def find_teacher(
    name: str,
    plan: Plan,
    feeds: Sequence[SplitLoader],
    streams: RandomStreams,
    run_folder: Path,
    seed_folder: int,
    given: nn.Module | None = None,
) -> PreparedTeacher:
    """A teacher by its name.

    Args:
        name (str): What ``kd.teacher`` names, or what ``kd.teacher_cfg`` gives.
        plan (Plan): The plan.
        feeds (sequence of SplitLoader): The students' feeds: train, validation, test.
        streams (RandomStreams): The run's streams.
        run_folder (Path): The folder of the student's run, above which names are looked up.
        seed_folder (int): Number of the student's seed folder.
        given (nn.Module, optional): A teacher handed over by ``gkd_plugin.run(teacher=...)``.

    Raises:
        UserError: If it is missing, unfinished, of other data or classes, unreadable, or does not reproduce its score.
    """
    graph, soft = whole_graph(feeds), _teaches_softly(plan)
    whole = graph.whole or graph if graph is not None else None
    if given is not None:
        return PreparedTeacher(ModuleTeacher(given, streams), whole, soft=soft)
    target = search.find_folder(name, run_folder)
    if target is None:
        raise _report_missing(plan, name, run_folder)
    if search.is_file(target):
        if sees_part():
            raise UserError(
                f"kd.teacher: {target} holds rows by node, and under splits.protocol some nodes come after training: nobody can "
                "tell whether its rows were computed without them. Name a run that was trained under the same protocol."
            )
        return PreparedTeacher(StoredTeacher(target), whole, soft=soft)
    store = Store.from_environment()
    found = search.choose(target, plan["teacher_seed"], seed_folder)
    own = own_cfg(found.config)
    if float(own.kd.get("hide_edges") or 0):
        raise UserError(
            f"kd.teacher: {found.name} was trained with hidden edges (kd.hide_edges: {own.kd.hide_edges}), but a "
            "teacher must see all edges. Train one without kd.hide_edges."
        )
    theirs, other = _find_data(own, found, feeds, streams)
    layers = plan["layers"]
    teacher = build_teacher(found.name, own, found.weights, found.record, streams, feeds[0].device, layers)
    teacher.model.eval_memory = float(plan["eval_memory"])
    _measure_again(teacher, theirs)
    if not is_as_written(found.weights):  # sharper probabilities, say, which decide alike
        raise UserError(
            f"kd.teacher: {found.weights} is not what its run wrote: its sha256 is not that of {RESULT}. Train it again under "
            "another name."
        )
    if not other:
        return PreparedTeacher(teacher, whole, store=store, soft=soft)
    return PreparedTeacher(teacher, theirs[0].single, own_edges=True, store=store, soft=soft)


def _teaches_softly(plan: Plan) -> bool:
    """Whether a term compares with the teacher's probabilities, and does not make them more certain first."""
    groups = [group for group, _ in listening(plan, "teacher") if group.name == "response"]
    return any(
        (group.get("loss") in ("kl", None) and group.get("target") == "soft") and float(group.get("sharpen", 1)) >= 1
        for group in groups
    )


def digest_teachers(plan: Plan, run_folder: Path, seed_folder: int, given: nn.Module | None = None) -> dict[str, str]:
    """The sha256 of each of a plan's teachers by name: of its weights, of a file's arrays, or of a module's tensors.

    Args:
        plan (Plan): The plan.
        run_folder (Path): The folder of the student's run, above which names are looked up.
        seed_folder (int): Number of the student's seed folder.
        given (nn.Module, optional): A teacher handed over by ``gkd_plugin.run(teacher=...)``.

    Raises:
        UserError: If one is missing, unfinished or unreadable.
    """
    found = {}
    for name in list_names(plan):
        target = search.find_folder(name, run_folder) if given is None else None
        if given is not None:
            content: Any = list_content(given)
        elif target is None:
            raise _report_missing(plan, name, run_folder)
        elif search.is_file(target):
            stored = StoredTeacher(target)
            content = [stored.logits, *stored.layers]
        else:
            content = load_weights(search.choose(target, plan["teacher_seed"], seed_folder).weights)
        found[name] = compute_digest(content)
    return found


def list_other_data(plan: Plan, run_folder: Path, seed_folder: int, data: str) -> Iterator[str]:
    """A warning of each teacher that was trained on other data under the names of these, where it may have seen what is tested.

    Its score alone does not tell, where validation is the same.

    Args:
        plan (Plan): The plan.
        run_folder (Path): The folder of the student's run, above which names are looked up.
        seed_folder (int): Number of the student's seed folder.
        data (str): The sha256 of the students' data.
    """
    for name in list_names(plan):
        target = search.find_folder(name, run_folder)
        if target is None or search.is_file(target):
            continue
        found = search.choose(target, plan["teacher_seed"], seed_folder)
        own = own_cfg(found.config)
        own.dataset.dir, own.seed = cfg.dataset.dir, found.seed + 1
        alike = not _describe_differences(own) and own.seed == cfg.seed and own.train.sampler == cfg.train.sampler
        if alike and own.get("splits") == cfg.get("splits") and found.data not in (None, data):
            yield (
                f"kd.teacher: {found.name} was trained on other features, labels, edges or splits than those of dataset.name: "
                f"{cfg.dataset.name} here (its sha256 of the data is another one). It may have been trained on nodes that are tested "
                "here; if they have changed since, train it again"
            )


def _report_missing(plan: Plan, name: str, run_folder: Path) -> UserError:
    if plan.get("teacher_cfg") is None:
        return search.report_missing(name, run_folder)
    searched = ", ".join(map(str, search.list_places(run_folder)))
    return UserError(
        f"kd.teacher_cfg: {plan['teacher_cfg']} is trained first only by gkd run; here its run '{name}' must "
        f"exist. Searched: {searched}. Train it: gkd run --cfg {plan['teacher_cfg']} --name {name}"
    )


def _find_data(
    own: CfgNode, found: search.FoundRun, feeds: Sequence[SplitLoader], streams: RandomStreams
) -> tuple[Sequence[SplitLoader], bool]:
    """The feeds on which a teacher was trained, and whether they are other graphs than the students'.

    Splits may be drawn by seed: a teacher of another seed is let in only where its split is the students', for it must
    not have been trained on their test nodes.
    """
    own.dataset.dir, own.seed = cfg.dataset.dir, found.seed + 1
    how = _describe_differences(own)
    if not how and own.seed == cfg.seed:
        own.share = cfg.share.clone()
        return feeds, False
    graph = whole_graph(feeds)
    if how:
        refused = f"kd.teacher: {found.name} was trained on other data ({how})"
        if graph is None:
            raise UserError(f"{refused}. Train a teacher on this data set.")
    else:
        refused = f"kd.teacher_seed: seed folder {found.seed} of {found.name} was trained with seed {own.seed}"
    own.train.sampler = own.val.sampler = "full_batch"
    if names_function(own.dataset.name) and own.dataset.name != cfg.dataset.name:
        raise UserError(
            f"{refused}, by a function of its own. A function that you have not named yourself is not run: train a teacher on this "
            "data set."
        )
    with streams.use("teacher"):
        loaders = load(own)  # fills own.share
        with host.scoped(own):
            theirs = make_split_loaders(per_split(loaders), feeds[0].task, feeds[0].device, streams)
    if graph is not None:
        whole = theirs[0].single
        same = whole is not None and _have_same_items([whole], [graph])
    else:
        same = all(_have_same_items(a.samples(), b.samples()) for a, b in zip(theirs[1:], feeds[1:], strict=True))
    if not same:
        raise UserError(
            f"{refused}, and its nodes, labels or splits differ: it may have been trained on nodes that are tested here. "
            + ("Train a teacher on this data set." if how else "Splits drawn by seed need kd.teacher_seed: match.")
        )
    if how and observed_task(own) != feeds[0].task:
        raise UserError(f"kd.teacher: {found.name} predicts another task ({how}). Train a teacher for this task.")
    return (theirs, True) if how else (feeds, False)


def _describe_differences(own: CfgNode) -> str:
    """How the teacher's data set differs from the students', in words."""
    differing = [key for key in _SAME_DATA if own.dataset.get(key) != cfg.dataset.get(key)]
    changes = [
        f"dataset.{key}: {own.dataset.get(key)} for the teacher, {cfg.dataset.get(key)} here" for key in differing
    ]
    ours, its = (dict(node.get("splits") or {}) for node in (cfg, own))
    alike = {None: "transductive", "production": "inductive"}  # both of the latter train on the same nodes
    for group in (ours, its):
        group["protocol"] = alike.get(group.get("protocol"), group.get("protocol"))
    keys = sorted({*ours, *its})
    changes += [
        f"splits.{k}: {its.get(k)} for the teacher, {ours.get(k)} here" for k in keys if its.get(k) != ours.get(k)
    ]
    return "; ".join(changes)


def _have_same_items(some: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Whether batches hold the same items with the same features, labels and splits; edges may differ."""
    pairs = [(_read_items(a), _read_items(b)) for a, b in zip(some, others, strict=False)]
    same = all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)
    return len(some) == len(others) and same


def _read_items(sample: Sample) -> dict[str, torch.Tensor]:
    kept = {k: v for k, v in sample.batch.to_dict().items() if k in ("x", "y", "batch") or k.startswith(SPLITS)}
    return {k: v for k, v in kept.items() if isinstance(v, torch.Tensor)}


def _measure_again(teacher: ModelTeacher, feeds: Sequence[SplitLoader]) -> None:
    """The gate: a teacher whose validation score cannot be reproduced is not the one that its record describes."""
    record, own = teacher.record, teacher.model.own
    samples = [sample.whole or sample for sample in feeds[1].samples()]
    with teacher.streams.use("teacher"), host.scoped(own):
        outcome = evaluate(teacher.model, samples, ("val",))["val"]
        measured = {**outcome.metrics(infer_task()), "loss": outcome.loss}.get(record.metric, float("nan"))
    items = sum(len(true) for true in outcome.true)
    # other threads or another device: the last digits of an error, or one item whose two best classes nearly tie
    slack = 1e-3 * abs(record.val) if record.metric in ERRORS else 1.5 / max(items, 1)
    if not abs(measured - record.val) <= slack + 10.0 ** -int(own.round):  # NaN never does
        raise UserError(
            f"kd.teacher: {teacher.name} has {record.metric} {measured:g} on the validation split here, but "
            f"{record.where} says {record.val:g}. Weights, data or split are not those of that run; train it again "
            "under another name."
        )
