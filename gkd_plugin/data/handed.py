"""Data that are handed over in Python: for as long as a run lasts they are a data set under a name."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.utils import index_to_mask

from gkd_plugin.data.own import OwnData, read_safely
from gkd_plugin.data.split_graphs import PARTS, OwnSplit, SplitGraphs
from gkd_plugin.data.tasks import LabelKind, infer_labels
from gkd_plugin.errors import UserError, describe_error, quote
from gkd_plugin.printing import HANDED

NAME = f"{__name__}:take"
"""``dataset.name`` of such data: the function below, found as any function of a user's."""
WORDS = f"data {HANDED}"
"""How a reader is told that name."""
FILE = "handed.pt"
MASKS = tuple(f"{part}_mask" for part in PARTS)
ALLOWED = (
    "Allowed: a torch_geometric Data with masks, a list of them, or the graphs of each split, as lists or loaders: "
    "data=(train, val, test)."
)

_handed: list[Callable[[], InMemoryDataset]] = []


def take(dir: str = ".") -> InMemoryDataset:
    """The data set that is handed over at present, in containers of its own; else the one that :meth:`HandedData.keep` left.

    Args:
        dir (str): ``dataset.dir``.

    Raises:
        UserError: If there is none.
    """
    if _handed:
        return _handed[-1]()
    path = Path(dir) / FILE
    if not path.is_file():
        raise UserError(
            f"dataset.name: the data of this run were handed over in Python (gkd_plugin.distill), and {path} is not there. Call it "
            "again with them, and with out=."
        )
    kept = read_safely(path)
    try:
        graphs, level = kept["graphs"], kept["level"]
        lists = [graphs] if isinstance(graphs, list) else [graphs[part] for part in PARTS]
        if not all(isinstance(graph, Data) for each in lists for graph in each):
            raise TypeError("it holds no graphs")
        return _build(graphs, level)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({describe_error(error)}). Call gkd_plugin.distill again with its data."
        ) from None


def _build(graphs: list[Data] | dict[str, list[Data]], level: str) -> InMemoryDataset:
    """The data set of graphs with masks, or of the graphs of each split."""
    if isinstance(graphs, list):
        return OwnData([copy.copy(graph) for graph in graphs])
    return OwnSplit(graphs) if level == "graph" else SplitGraphs(graphs)


@contextmanager
def handing(make: Callable[[], InMemoryDataset]) -> Iterator[None]:
    """Within, ``dataset.format: gkd`` has the data set that ``make`` gives under the name :data:`NAME`."""
    _handed.append(make)
    try:
        yield
    finally:
        _handed.pop()


@dataclass(frozen=True)
class HandedData:
    """Data that a run can be given.

    Args:
        graphs (list or dict): Graphs with masks, or the graphs of each split; tensors are the caller's, and nobody writes into
            them.
        kind (LabelKind): What is predicted.
        batch_size (int, optional): That of the loader that it came from.
        notes (tuple of str): What a run must say of them.
    """

    graphs: list[Data] | dict[str, list[Data]]
    kind: LabelKind
    batch_size: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether there is more than one graph."""
        parts = self.graphs.values() if isinstance(self.graphs, dict) else [self.graphs]
        return sum(map(len, parts)) > 1

    def make(self) -> InMemoryDataset:
        """The data set anew."""
        dataset = _build(self.graphs, self.kind.level)
        dataset.gkd_notes = self.notes
        return dataset

    def keep(self, folder: Path) -> None:
        """Writes them into a folder, for commands that read a run's data again (``gkd export``, ``gkd card``)."""
        partial = folder / f"{FILE}.part"
        torch.save({"graphs": self.graphs, "level": self.kind.level}, partial)
        os.replace(partial, folder / FILE)


def read_handed(data: Any, task: str | None = None) -> HandedData:
    """What a caller's data are, with their labels as the host reads them.

    Args:
        data (Data or sequence or mapping): A graph with masks, graphs with masks, or the graphs of ``train``, ``val`` and
            ``test``, as lists, data sets or loaders.
        task (str, optional): What is predicted, where the labels do not say it themselves.

    Raises:
        UserError: If it is something else, lacks labels or a split, or the labels may mean several things.
    """
    parts = _find_parts(data)
    if parts is None:
        return _read_graphs(data, task)
    joined = _join_samplers(parts)
    return _read_splits(parts, task) if joined is None else _read_graphs(joined, task)


def _read_graphs(data: Any, task: str | None) -> HandedData:
    """Graphs whose nodes have masks."""
    graphs, size = _list_graphs(data, "data=")
    names = ["data"] if len(graphs) == 1 else [f"data[{number}]" for number in range(len(graphs))]
    kind = infer_labels(graphs, task)
    if kind.level == "graph":
        raise UserError(
            f"data= has {len(graphs)} graphs with one label each, and nothing says which of them your teacher was trained on. "
            "Give the graphs of each split, as lists or loaders: data=(train, val, test)."
        )
    graphs = [_prepare(graph, kind, name) for graph, name in zip(graphs, names, strict=True)]
    for graph, name in zip(graphs, names, strict=True):
        _check_masks(graph, name, alone=len(graphs) == 1)
        _fill_unlabelled(graph, kind)
    _require_alike(graphs)
    return HandedData(graphs, kind, size)


def _read_splits(parts: Mapping[str, Any], task: str | None) -> HandedData:
    """Graphs that belong to one split each."""
    read = {part: _list_graphs(found, f"data={part}:") for part, found in parts.items()}
    kind = infer_labels([graph for graphs, _ in read.values() for graph in graphs], task)
    split = {
        part: [_prepare(graph, kind, f"data={part}: graph {number}") for number, graph in enumerate(graphs)]
        for part, (graphs, _) in read.items()
    }
    _require_alike([graph for graphs in split.values() for graph in graphs])
    if kind.level != "node":
        return HandedData(split, kind, read["train"][1])
    _require_all_starts(parts, split)
    return HandedData(split, kind, read["train"][1], _find_unread_masks(split))


def _require_alike(graphs: Sequence[Data]) -> None:
    """Graphs of one data set have the same attributes, or they cannot be put together."""
    for number, graph in enumerate(graphs):
        if odd := {*graph.keys()} ^ {*graphs[0].keys()}:
            raise UserError(
                f"data=: graphs 0 and {number} do not both have {', '.join(sorted(odd))}. Give all the same attributes."
            )


def _find_parts(data: Any) -> dict[str, Any] | None:
    """The graphs of each split, where they come apart."""
    if isinstance(data, Mapping) and not isinstance(data, (Data, HeteroData)):
        if set(data) != set(PARTS):
            found = ", ".join(map(quote, data)) or "nothing"
            raise UserError(
                f"data= is a mapping with {found}. Allowed: the keys {', '.join(PARTS)}, each with its graphs."
            )
        return dict(data)
    if isinstance(data, (tuple, list)) and len(data) == len(PARTS):
        if isinstance(data, tuple) or not any(isinstance(each, (Data, HeteroData)) for each in data):
            return dict(zip(PARTS, data, strict=True))
    elif isinstance(data, (tuple, list)) and any(map(_holds_graphs, data)):
        kinds = ", ".join(f"a {type(each).__name__}" for each in data)
        raise UserError(
            f"data= has {len(data)} part{'s' if len(data) > 1 else ''} ({kinds}), and needs three: data=(train, val, test), the graphs of "
            "each split as a list, a data set or a loader. Validation selects the epoch and the test split is read once, so no split "
            "can serve twice: where there are only two, take some training graphs for validation."
        )
    return None


def _join_samplers(parts: Mapping[str, Any]) -> Data | None:
    """The one graph from which the loaders of all splits sample, with a mask for the nodes at which each of them starts."""
    graphs = [getattr(part, "data", None) for part in parts.values()]
    starts = [nodes for part in parts.values() if (nodes := _find_starts(part)) is not None]
    if not isinstance(graphs[0], Data) or any(graph is not graphs[0] for graph in graphs) or len(starts) < len(parts):
        return None
    joined, count = copy.copy(graphs[0]), int(graphs[0].num_nodes or 0)
    masks = [index_to_mask(nodes, count) for nodes in starts]
    if not all(bool(mask.all()) for mask in masks):  # else the graph's own masks say what is what
        for part, mask in zip(parts, masks, strict=True):
            joined[f"{part}_mask"] = mask
    return joined


def _find_starts(part: Any) -> Tensor | None:
    """The nodes at which a loader begins to sample (``input_nodes``); ``None`` for anything else."""
    nodes = getattr(getattr(part, "input_data", None), "node", None)
    return nodes if isinstance(nodes, Tensor) else None


def _require_all_starts(parts: Mapping[str, Any], split: Mapping[str, Sequence[Data]]) -> None:
    """Loaders of several graphs, each of which belongs to its split with all its nodes, begin at all of them.

    Raises:
        UserError: If one does not.
    """
    for part, graphs in split.items():
        starts, nodes = _find_starts(parts[part]), sum(int(graph.num_nodes or 0) for graph in graphs)
        if starts is not None and starts.unique().numel() < nodes:
            raise UserError(
                f"data={part}: the loader starts at {starts.unique().numel()} of {nodes} nodes (input_nodes), but the loaders of the "
                "splits are of different graphs, each of which belongs to its split with all its nodes. Give one graph with "
                "train_mask, val_mask and test_mask: data=graph."
            )


def _find_unread_masks(split: Mapping[str, Sequence[Data]]) -> tuple[str, ...]:
    """A warning where graphs of a split say of themselves that not all their nodes belong to it."""
    unread = {
        name
        for part, graphs in split.items()
        for graph in graphs
        for name in MASKS
        if isinstance(mask := graph.get(name), Tensor)
        and (not bool(mask.all()) if name == f"{part}_mask" else bool(mask.any()))
    }
    if not unread:
        return ()
    return (
        f"{WORDS}: {', '.join(sorted(unread, key=MASKS.index))} of its graphs are not read: each graph of a split belongs to it with all "
        "its nodes. If the masks are meant, give the graph alone: data=graph.",
    )


def _holds_graphs(part: Any) -> bool:
    """Whether a part of what a caller gave is a list, a data set or a loader, and no graph itself."""
    if isinstance(part, (Data, HeteroData, Tensor, str, Mapping)):
        return False
    return hasattr(part, "batch_sampler") or (hasattr(part, "__getitem__") and hasattr(part, "__len__"))


def _list_graphs(found: Any, where: str) -> tuple[list[Data], int | None]:
    """The graphs in what a caller gave, and the batch size of a loader."""
    size = getattr(found, "batch_size", None)
    if hasattr(found, "batch_sampler"):  # a loader of graphs, or one that samples a graph
        if isinstance(inner := getattr(found, "data", None), Data):
            found = inner
        else:
            _require_whole_loader(found, where)
            found = found.dataset
    if isinstance(found, Data):
        graphs: list[Any] = [found]
    elif isinstance(found, Sequence) and not isinstance(found, str):
        graphs = list(found)
    elif (
        hasattr(found, "__getitem__") and hasattr(found, "__len__") and not isinstance(found, (Tensor, str, HeteroData))
    ):
        graphs = [found[number] for number in range(len(found))]
    else:
        raise UserError(f"{where} a {type(found).__name__}{_hint(found)}. {ALLOWED}")
    other = next((each for each in graphs if not isinstance(each, Data)), None)
    if other is not None:
        raise UserError(f"{where} a {type(found).__name__} with a {type(other).__name__} in it. {ALLOWED}")
    for number, graph in enumerate(graphs):
        _require_inputs(graph, f"{where} graph {number}" if len(graphs) > 1 else where.rstrip(":"))
    if not graphs:
        raise UserError(f"{where} an empty {type(found).__name__}. {ALLOWED}")
    return graphs, int(size) if isinstance(size, int) else None


def _require_whole_loader(loader: Any, where: str) -> None:
    """The graphs of a loader's data set are read, in whatever order: a sampler that chooses some of them is not asked."""
    for name, usual in (("sampler", (SequentialSampler, RandomSampler)), ("batch_sampler", (BatchSampler, type(None)))):
        found = getattr(loader, name, None)
        if type(found) not in usual and not (name == "sampler" and getattr(loader, "batch_size", None) is None):
            raise UserError(
                f"{where} the loader chooses its graphs by a {type(found).__name__} ({name}=), which is not read. Give the graphs of "
                "each split: torch.utils.data.Subset(dataset, positions), or a list of them."
            )


def _require_inputs(graph: Data, where: str) -> None:
    if isinstance(x := graph.get("x"), Tensor) and x.dtype == torch.float64:
        raise UserError(
            f"{where}: x is float64, and students are float32. Write data.x = data.x.float(); a teacher in float64 then needs "
            "teacher.float(), too."
        )
    for name in ("x", "edge_index"):
        if not isinstance(graph.get(name), Tensor):
            held = ", ".join(graph.keys()) or "nothing"
            raise UserError(
                f"{where} has no {name} (it has {held}). Students read x [nodes, features] and edge_index [2, edges]."
            )


def _hint(found: Any) -> str:
    if isinstance(found, HeteroData):
        return " (graphs of several types are trained by gkd_plugin.run, docs/relations.md)"
    return ""


def _prepare(graph: Data, kind: LabelKind, where: str) -> Data:
    """A copy with containers of its own, on the CPU, and the labels in the host's form."""
    ours = copy.copy(graph).cpu()
    ours.y = kind.shape(ours.y)
    if kind.level == "node" and len(ours.y) != ours.x.size(0):
        raise UserError(f"{where}.y has {len(ours.y)} rows for {ours.x.size(0)} nodes; every node needs one.")
    return ours


def _check_masks(graph: Data, where: str, alone: bool) -> None:
    """Masks decide what the students may learn from; a split of another draw would test on what the teacher was trained on."""
    nodes = graph.x.size(0)
    missing = [name for name in MASKS if graph.get(name) is None]
    if missing and not (alone and missing == ["val_mask"]):  # of the training nodes some can validate
        raise UserError(
            f"{where} has no {', '.join(missing)}. Students train, are selected and are tested on the nodes of train_mask, "
            "val_mask and test_mask (bool [nodes]). Set those that your teacher was trained with: a split drawn anew would test "
            "on its training nodes."
        )
    for name in MASKS:
        mask = graph.get(name)
        if mask is None:
            continue
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            what = str(mask.dtype).removeprefix("torch.") if isinstance(mask, Tensor) else type(mask).__name__
            raise UserError(
                f"{where}.{name} holds {what}, not truth values. From positions: index_to_mask(mask, data.num_nodes) "
                "(torch_geometric.utils); from 0 and 1: mask.bool()."
            )
        if mask.dim() == 2:
            raise UserError(
                f"{where}.{name} holds {mask.size(1)} splits, and your teacher was trained on one of them. Choose it: "
                f"data.{name} = data.{name}[:, 0]."
            )
        if mask.shape != (nodes,):
            raise UserError(f"{where}.{name} has {mask.numel()} values for {nodes} nodes; every node needs one.")
        if alone and not bool(mask.any()):
            raise UserError(f"{where}.{name} has no node in it. Every split needs one.")


def _fill_unlabelled(graph: Data, kind: LabelKind) -> None:
    """Nodes of no split may lack a class (-1, say), which the host would count as one more."""
    if kind.task_type == "classification" and bool((none := graph.y < 0).any()):
        inside = torch.stack([graph[name] for name in MASKS if name in graph]).any(dim=0)
        graph.y = torch.where(none & ~inside, graph.y.new_zeros(()), graph.y)
