"""What is legal in data, but probably a mistake: said before training, in `gkd run` and in host programs alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from yacs.config import CfgNode

from gkd_plugin.data.served import ITEMS, Served, read_labels
from gkd_plugin.data.split_graphs import PARTS

_CONSEQUENCES = {  # of items that two splits share
    ("train", "val"): "validation selects by what was trained on",
    ("train", "test"): "the test score is not that of unseen data",
    ("val", "test"): "epochs are selected by what is tested",
}
_MOST = 5  # classes that a message names


def find_doubts(loaders: Sequence[Any], own: CfgNode) -> list[str]:
    """All warnings about the data, and what our loaders did to them that a reader of scores must know.

    Args:
        loaders (sequence): Loaders for train, validation and test.
        own (CfgNode): The configuration that they were made for.
    """
    done: tuple[str, ...] = getattr(getattr(loaders[0], "dataset", None), "gkd_notes", ())
    return [*done, *find_shared_items(loaders, own), *_find_unseen_classes(loaders, own)]


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
            f"dataset.name: '{own.dataset.name}': {words} {shown}: in the test split, and no item of the train split has "
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
    found = []
    for (first, a), (second, b) in combinations(zip(PARTS, sources, strict=False), 2):
        mine, theirs = _mark_items(first, a, task), _mark_items(second, b, task)
        if mine is None or theirs is None or mine.shape != theirs.shape or not _is_same(a, b):
            continue
        shared = int((mine & theirs).sum())
        if shared:
            whole = " (all of both)" if torch.equal(mine, theirs) else ""
            count = f"1 {ITEMS[task][:-1]} is" if shared == 1 else f"{shared} {ITEMS[task]} are"
            found.append(
                f"dataset.name: '{own.dataset.name}': {count} in both the {first} and the {second} split{whole}, "
                f"so {_CONSEQUENCES[first, second]}."
            )
    return found


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
