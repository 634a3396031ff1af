"""What is legal in data, but probably a mistake: said before training, in `gkd run` and in host programs alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from torch_geometric.graphgym import register
from yacs.config import CfgNode

from gkd_plugin.data.handed import NAME, WORDS
from gkd_plugin.data.own import names_function
from gkd_plugin.data.served import ITEMS, Served, read_labels
from gkd_plugin.data.split_graphs import PARTS, SplitGraphs
from gkd_plugin.models.aux_layers import PREFIX
from gkd_plugin.models.networks import NETWORKS

_CONSEQUENCES = {  # of items that two splits share
    ("train", "val"): "validation selects by what was trained on",
    ("train", "test"): "the test score is not that of unseen data",
    ("val", "test"): "epochs are selected by what is tested",
}
# a graph's place, not a part of it
_SPLIT_NAMES = {f"{part}_{kind}" for part in PARTS for kind in ("mask", "graph_index")}
_MOST = 5  # classes that a message names


def find_doubts(loaders: Sequence[Any], own: CfgNode) -> list[str]:
    """All warnings about the data, and what our loaders did to them that a reader of scores must know.

    Args:
        loaders (sequence): Loaders for train, validation and test.
        own (CfgNode): The configuration that they were made for.
    """
    done: tuple[str, ...] = getattr(getattr(loaders[0], "dataset", None), "gkd_notes", ())
    done = tuple(note.replace(f"dataset.name: '{NAME}'", WORDS) for note in done)
    found = (find_shared_items(loaders, own), _find_unseen_classes(loaders, own), _find_unread_weights(loaders, own))
    return [*done, *(text for texts in found for text in texts)]


def _find_unread_weights(loaders: Sequence[Any], own: CfgNode) -> Iterator[str]:
    """A warning where edges have weights that no layer of the student reads: a teacher of another origin may."""
    weights = Served(loaders[0]).get("edge_weight")
    if weights is None or not bool((weights != 1).any()):
        return
    word = str(own.model.type)
    if word == "gnn":
        word = str(own.gnn.layer_type).removeprefix(PREFIX)
        layer = register.layer_dict.get(word)
        if layer is not None and not layer.__module__.startswith("torch_geometric."):
            return
    elif word not in NETWORKS:
        return
    yield (
        f"{_call(own)}: edge_weight: {word} does not read it, so that to the students all edges count alike. A teacher of "
        "your own may read it. A layer or network of your own can, too (docs/run.md)."
    )


def _find_unseen_classes(loaders: Sequence[Any], own: CfgNode) -> Iterator[str]:
    """A warning where items are tested whose class no training item has."""
    task, kind = own.dataset.task, own.dataset.task_type
    if task not in ("node", "graph") or kind != "classification":
        return
    seen: dict[str, set[int]] = {}
    for part, loader in zip(PARTS, loaders, strict=False):
        y = read_labels(part, Served(loader), task)
        if y is None:
            return
        seen[part] = set(y.unique().tolist())
    unseen = sorted(seen.get("test", set()) - seen["train"])
    if unseen:
        shown = ", ".join(f"{label:g}" for label in unseen[:_MOST]) + (", ..." if len(unseen) > _MOST else "")
        words = "class" if len(unseen) == 1 else "classes"
        yield (
            f"{_call(own)}: {words} {shown}: in the test split, and no item of the train split has "
            f"{'it' if len(unseen) == 1 else 'them'}, so no student can learn {'it' if len(unseen) == 1 else 'them'}."
        )


def find_shared_items(loaders: Sequence[Any], own: CfgNode) -> list[str]:
    """A warning for every two splits that have nodes or graphs in common: such a score says less than it seems to.

    Args:
        loaders (sequence): Loaders for train, validation and test.
        own (CfgNode): The configuration that they were made for.
    """
    task = own.dataset.task
    if task not in ("node", "graph"):
        return []
    sources = [Served(loader) for loader in loaders]
    whole_graphs = task == "graph" or isinstance(sources[0].dataset, SplitGraphs)
    items = ITEMS["graph" if whole_graphs else task]
    contents = _digest_splits(sources) if whole_graphs and names_function(own.dataset.name) else None
    found = []
    for (first, a), (second, b) in combinations(zip(PARTS, sources, strict=False), 2):
        if contents is not None:
            here, there = contents[first], contents[second]
            known = set(here)
            shared, same = sum(graph in known for graph in there), known == set(there)
        else:
            mine, theirs = _mark_items(first, a, task), _mark_items(second, b, task)
            if mine is None or theirs is None or mine.shape != theirs.shape or not _is_same(a, b):
                continue
            shared, same = int((mine & theirs).sum()), torch.equal(mine, theirs)
        if shared:
            whole = " (all of both)" if same else ""
            count = f"1 {items[:-1]} is" if shared == 1 else f"{shared} {items} are"
            found.append(
                f"{_call(own)}: {count} in both the {first} and the {second} split{whole}, "
                f"so {_CONSEQUENCES[first, second]}."
            )
    return found


def _call(own: CfgNode) -> str:
    """The data by a name that their owner knows."""
    return WORDS if own.dataset.name == NAME else f"dataset.name: '{own.dataset.name}'"


def _digest_splits(sources: Sequence[Served]) -> dict[str, list[bytes]] | None:
    """What tells the graphs of each split apart, by content: a user's lists may have the same graph at several places.

    Data sets with a name are not searched: what is equal there is their authors' choice. ``None`` where the graphs cannot be
    seen.
    """
    found = {}
    for part, source in zip(PARTS, sources, strict=False):
        dataset = source.dataset
        if not isinstance(dataset, InMemoryDataset) or not isinstance(source.slices, dict):
            return None
        members = dataset.members.get(part) if isinstance(dataset, SplitGraphs) else None
        found[part] = _digest_graphs(source, dataset.indices() if members is None else members)
    return found


def _digest_graphs(source: Served, positions: Sequence[int]) -> list[bytes]:
    """A hash of all tensors of each graph but its masks, straight from the table of all: thousands take no time."""
    tables, data = [], source.data
    if data is None:
        return []
    for name, ends in sorted(source.slices.items()):
        value = data.get(name)
        if name in _SPLIT_NAMES or not isinstance(value, Tensor) or value.layout != torch.strided:
            continue
        along = data.__cat_dim__(name, value) or 0
        rows = value.detach().cpu().movedim(along, 0)
        rows = rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(1)
        # as bytes: numpy has no bfloat16
        tables.append((f"{name} ".encode(), rows.contiguous().view(torch.uint8).numpy(), ends.tolist()))
    digests = []
    for position in positions:
        graph = hashlib.sha256()
        for name, values, ends in tables:
            first, last = ends[position], ends[position + 1]
            graph.update(name + f"{last - first} ".encode())
            graph.update(values[first:last].data)
        digests.append(graph.digest())
    return digests


def _is_same(a: Served, b: Served) -> bool:
    """Whether two loaders serve parts of the same data."""
    if a.data is b.data:
        return True
    x, y = a.get("x"), b.get("x")
    return x is not None and y is not None and x.shape == y.shape and x.data_ptr() == y.data_ptr()


def _mark_items(part: str, source: Served, task: str) -> Tensor | None:
    """Truth values: which nodes or graphs of all belong to a split."""
    if task == "node":
        mask = source.get(f"{part}_mask")
        return mask if mask is not None and mask.dim() == 1 and mask.dtype == torch.bool else None
    if not isinstance(source.dataset, InMemoryDataset):
        return None
    mask = torch.zeros(source.dataset.len(), dtype=torch.bool)
    mask[torch.as_tensor(list(source.dataset.indices()), dtype=torch.long)] = True
    return mask
