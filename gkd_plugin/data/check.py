"""Checks the data before training: splits, labels and features, in `gkd run` and in host programs alike.

What cannot be seen from outside (a loader of another kind, the result of a transform) is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from gkd_plugin.data.keep import derive
from gkd_plugin.data.names import DATA_SETS
from gkd_plugin.data.relations import is_type_table
from gkd_plugin.data.served import ITEMS, Served, read_labels
from gkd_plugin.data.split_graphs import PARTS
from gkd_plugin.errors import UserError
from gkd_plugin.models.networks import NETWORKS

SPLIT_KEYS = {
    "node": ("train_mask", "val_mask", "test_mask"),
    "edge": ("train_edge_index", "val_edge_index", "test_edge_index"),
    "link_pred": ("train_edge_index", "val_edge_index", "test_edge_index"),
    "graph": ("train_graph_index", "val_graph_index", "test_graph_index"),
}
WITH_SPLITS = "Cora, CiteSeer, PubMed and digits"


def check_data(loaders: Sequence[Any], own: CfgNode) -> None:
    """Refuses data on which a run could not train, select or test, or would do so wrongly.

    Args:
        loaders (sequence): Loaders for train, validation and test, the host's or a program's own.
        own (CfgNode): The configuration that they were made for, ``share`` filled in.

    Raises:
        UserError: With all mistakes in the data.
    """
    task = own.dataset.task
    if task not in SPLIT_KEYS:
        return
    sources = [Served(loader) for loader in loaders]
    _check_presence(sources, own)
    found = [text for part, source in zip(PARTS, sources, strict=False) for text in _check_split(part, source, task)]
    if not found:
        labels = {part: read_labels(part, source, task) for part, source in zip(PARTS, sources, strict=False)}
        found = [*_check_labels({part: y for part, y in labels.items() if y is not None}, own)]
        for source in _drop_duplicates(sources):
            found += [
                *([] if found else _check_classes(source, own)),
                *_check_kind(source, own),
                *_check_features(source, own),
                *_check_edges(source),
            ]
    if found:
        lines = found[0] if len(found) == 1 else "\n  ".join(["", *found])
        raise UserError(f"dataset.name: '{own.dataset.name}': {lines}")


def _check_edges(source: Served) -> Iterator[str]:
    """Edges to nodes that are not there end in an IndexError somewhere in the network, or read another graph's nodes."""
    edges, x = source.get("edge_index"), source.get("x")
    if edges is None or x is None or edges.dim() != 2 or edges.is_floating_point() or not edges.numel():
        return
    limit: Tensor | int = x.size(0)
    slices = source.slices or {}
    if "x" in slices and "edge_index" in slices:  # each graph counts its own nodes
        limit = torch.repeat_interleave(slices["x"].diff(), slices["edge_index"].diff())
    wrong = ((edges < 0) | (edges >= limit)).any(dim=0)
    if wrong.any():
        first = edges[:, int(wrong.nonzero()[0])].tolist()
        count = int(wrong.sum())
        yield (
            f"edge_index has {count} edge{'s' if count > 1 else ''} to nodes that are not there, the first from {first[0]} to {first[1]}. Nodes "
            "are counted from 0 to the number of rows of x, less 1."
        )


def _drop_duplicates(sources: Sequence[Served]) -> list[Served]:
    return list({id(source.data): source for source in sources}.values())


# --------------------------------------------------------------------------------------------------------------- splits


def _check_presence(sources: Sequence[Served], own: CfgNode) -> None:
    task, first = own.dataset.task, sources[0]
    keys = SPLIT_KEYS[task]
    names = {name for source in sources for name in source.names()}
    if len(sources) < len(PARTS):
        # graph indices are taken out of the data by the host: its number of loaders tells which there were
        missing = list(keys[len(sources) :]) if task == "graph" else [key for key in keys if key not in names]
    elif task == "graph" or first.data is None:
        return
    elif task == "node":
        shared = all(source.dataset is first.dataset for source in sources)
        some = any(key in source.names() for source in sources for key in keys)
        several = [
            k for k, source in zip(keys, sources, strict=False) if source.data is not None and k not in source.names()
        ]
        missing = several if shared or some else []  # loaders with graphs of their own need no masks
    else:  # masks of nodes count as splits to the host, and serve nothing here
        missing = [key for key in (keys[1:] if first.changed else keys) if key not in names]
    if missing:
        raise UserError(report_missing_splits(own.dataset, missing, sorted(names)))


def report_missing_splits(dataset: CfgNode, missing: Sequence[str], names: Sequence[str] = ()) -> str:
    """The error text for a data set that lacks a split, with the remedy for this task.

    Args:
        dataset (CfgNode): The configuration's group.
        missing (sequence of str): The names that the host searches.
        names (sequence of str): What the data have.
    """
    task, name = dataset.task, dataset.name
    text = f"dataset.name: '{name}' has no {', '.join(missing)} (task: {task}), so no epoch can be selected or tested. "
    known = {key for keys in SPLIT_KEYS.values() for key in keys}
    like = [n for n in names if n not in known and any(part in n for part in (*PARTS, "mask", "split"))]
    if like:
        text += f"It has {', '.join(like)}, but the host reads these names only: {', '.join(SPLIT_KEYS[task])}. "
    if task in ("edge", "link_pred"):
        return text + (
            "Set dataset.format: gkd and task: link_pred, which draws pairs from a graph's edges, or give train_, val_ and "
            "test_edge_index ([2, pairs]) and train_, val_ and test_edge_label ([pairs]) by a loader of your own."
        )
    if task == "graph":
        if name.startswith("TU_") and dataset.format == "PyG":
            return text + "Write dataset.format: gkd, which draws a split by seed (the group splits says how)."
        return text + (
            "Data sets of many graphs have splits under dataset.format: gkd (TU_<name>); a loader of your own must give the "
            "positions of each split's graphs."
        )
    if name in DATA_SETS and dataset.format == "PyG":
        return text + "Write dataset.format: gkd, which draws a split by seed (the group splits says how)."
    return text + f"{WITH_SPLITS} have three splits; a loader of your own can draw them (gkd_plugin.data.splits)."


def _check_split(part: str, source: Served, task: str) -> Iterator[str]:
    if task == "graph":
        if hasattr(source.dataset, "__len__") and len(source.dataset) == 0:
            yield f"there is no graph in {part}_graph_index. Every split needs one."
        return
    key = SPLIT_KEYS[task][PARTS.index(part)]
    value = source.get(key)
    if value is None:
        return
    if task == "node":
        yield from _check_mask(key, value, source)
    elif value.dim() != 2 or value.size(0) != 2:
        yield f"{key} has the shape {list(value.shape)}. Allowed: [2, pairs]."
    elif value.size(1) == 0:
        yield f"there is no pair in {key}. Every split needs one."
    elif (label := source.get(key.replace("index", "label"))) is None:
        yield f"{key} has no {key.replace('index', 'label')} (the label of each pair). Add it in the loader."
    elif len(label) != value.size(1):
        yield f"{key.replace('index', 'label')} has {len(label)} values for {value.size(1)} pairs. Allowed: one for each pair."


def _check_mask(key: str, mask: Tensor, source: Served) -> Iterator[str]:
    x = source.get("x")
    if mask.dim() != 1:
        yield (
            f"{key} has the shape {list(mask.shape)}, but the host reads one split. Choose one in the loader: "
            f"data.{key} = data.{key}[:, 0] (dataset.format: gkd does so by seed)."
        )
    elif mask.dtype != torch.bool:
        if bool(((mask == 0) | (mask == 1)).all()):
            how = f"contains 0 and 1 as {_name_type(mask)}, which the host would read as the numbers of nodes 0 and 1"
            yield f"{key} {how}. Write data.{key} = data.{key}.bool() in the loader."
        else:
            how = f"contains positions ({_name_type(mask)}), not truth values"
            yield f"{key} {how}. Write data.{key} = index_to_mask(data.{key}, data.num_nodes) (torch_geometric.utils)."
    elif x is not None and len(mask) != len(x):
        yield f"{key} has {len(mask)} values for {len(x)} nodes. Allowed: one for each node."
    elif not bool(mask.any()):
        yield f"there is no node in {key}. Every split needs one."


def _name_type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


# --------------------------------------------------------------------------------------------------------------- labels


def _check_labels(labels: dict[str, Tensor], own: CfgNode) -> Iterator[str]:
    kind, things = own.dataset.task_type, ITEMS[own.dataset.task]
    if kind not in ("classification", "regression"):
        return
    sound = True
    for part, y in labels.items():
        if y.is_floating_point() and (missing := int((~y.isfinite()).sum())):
            sound = False
            yield f"{missing} of {len(y)} {things} of the {part} split have a label that is not a number. {_leave_out(part)}"
        elif kind == "classification" and (text := _check_class(part, y, own)):
            sound = False
            yield text
    if kind == "classification" and sound:
        yield from _check_auc(labels, own)
        if (
            own.dataset.task == "link_pred"
            and own.share.dim_out > 2
            and all(int(y.max()) <= 1 for y in labels.values())
        ):
            yield (
                f"pairs have the labels 0 and 1, but the host counts the {own.share.dim_out} values of y as classes. "
                "Leave y out in the loader: del data.y."
            )


def _leave_out(part: str) -> str:
    return f"Leave them out of the {part} split."


def _check_class(part: str, y: Tensor, own: CfgNode) -> str | None:
    things, classes = ITEMS[own.dataset.task], max(int(own.share.dim_out), 2)
    if y.is_floating_point() and bool((y != y.floor()).any()):
        return f"labels such as {float(y[y != y.floor()][0]):g} are not classes. Write dataset.task_type: regression."
    if wrong := int((y < 0).sum()):
        seen = ", ".join(str(int(v)) for v in y[y < 0].unique()[:3])
        return f"{wrong} of {len(y)} {things} of the {part} split have no class (label {seen}). {_leave_out(part)}"
    if wrong := int((y >= classes).sum()):
        return (
            f"{wrong} of {len(y)} {things} of the {part} split have a label of {classes} or more (up to {int(y.max())}), but "
            f"the host counts {own.share.dim_out} classes. Number them from 0 without gaps."
        )
    return None


def _check_auc(labels: dict[str, Tensor], own: CfgNode) -> Iterator[str]:
    """The host's metric for two classes is not defined on a split with only one of them."""
    if own.share.dim_out > 2 or own.custom_metrics or own.metric_best not in ("auto", "auc"):
        return
    for part in ("val", "test"):
        y = labels.get(part)
        if y is not None and y.numel() and bool((y == y[0]).all()):
            yield (
                f"metric_best: {own.metric_best} means auc for two classes, which is not defined on the {part} split: all "
                f"{len(y)} {ITEMS[own.dataset.task]} are of class {int(y[0])}. Write metric_best: accuracy, or use a split "
                "with both classes."
            )


def _check_classes(source: Served, own: CfgNode) -> Iterator[str]:
    """The host counts the values of ``y``: a value for "no label" would be one more class."""
    y = source.get("y")
    if y is None or own.dataset.task_type != "classification" or own.dataset.task in ("edge", "link_pred"):
        return
    none = y.isnan() if y.is_floating_point() else torch.zeros_like(y, dtype=torch.bool)
    none |= y < 0
    counted = int(y.unique().numel())
    if bool(none.any()) and int(own.share.dim_out) == counted:
        real, some = int(y[~none].unique().numel()), y[none].unique()[0]
        yield (
            f"{int(none.sum())} labels are {float(some):g}, which the host counts as classes ({counted} instead of "
            f"{real}). They are in no split, so set any class: data.y[data.y < 0] = 0 in the loader"
            + (" (after data.y.nan_to_num(-1))." if y.is_floating_point() else ".")
        )
    elif y.dtype not in (torch.long, torch.uint8) and own.share.dim_out > 2:  # torch's cross-entropy takes no others
        yield f"y holds classes as {_name_type(y)}. Write data.y = data.y.long() in the loader."


def _check_kind(source: Served, own: CfgNode) -> Iterator[str]:
    """Whether labels are of the kind that ``dataset.task_type`` says: a class for each item, or a row of yes and no."""
    y, kind = source.get("y"), own.dataset.task_type
    if own.dataset.task not in ("node", "graph"):
        return
    if y is None:
        if (
            source.data is not None
            and not source.changed
            and own.model.type in ("gnn", *NETWORKS)
            and "y" not in source.names()
        ):
            yield "there are no labels: the graphs have no y. Give each node (or graph) a class in y."
        return
    x = source.get("x")
    if own.dataset.task == "node" and x is not None and len(y) != len(x):
        yield f"y has {len(y)} rows for {len(x)} nodes. Allowed: one for each node."
    columns = y.size(1) if y.dim() == 2 else 1
    if kind == "classification" and columns > 1:
        yield f"y has {columns} labels for each item. Write dataset.task_type: classification_multilabel."
    elif kind == "classification_multilabel" and y.dim() == 1:
        yield "y has one class for each item. Write dataset.task_type: classification."
    elif kind == "classification_multilabel" and y.is_floating_point() and (missing := int(y.isnan().sum())):
        yield (
            f"{missing} of {y.numel()} labels are missing (NaN), and the loss would be, too. Keep the labels that all items have, "
            "or fill them (data.y = data.y.nan_to_num(0)) in a function of your own (docs/data.md)."
        )


# ------------------------------------------------------------------------------------------------------------- features


def _check_features(source: Served, own: CfgNode) -> Iterator[str]:
    """Encoders and networks of the user's own may read anything; the host's layers and ours read finite float32."""
    for name in source.names():  # tables of types of nodes
        if source.data is not None and is_type_table(source.data, name) and (table := source.get(name)) is not None:
            if table.dtype != torch.float32:
                yield f"{name} is {_name_type(table)}, but the layers are float32. Give floats (.float()) in the loader."
            elif not bool(torch.isfinite(table).all()):
                count = int((~torch.isfinite(table)).sum())
                yield f"{count} values of {name} are NaN or infinite. Fill them in the loader (.nan_to_num(0.0, 0.0, 0.0))."
    if "n_id" in source.names():
        yield "it has n_id, the name by which parts of a graph say which nodes they hold. Call it otherwise in the loader."
    x = source.get("x")
    if x is None and own.share.get("node_types") and own.model.type == "gnn" and not own.dataset.node_encoder:
        names = ", ".join(NETWORKS)
        yield (
            "its nodes have features by type, or none, and no common table x, which model.type: gnn reads. "
            f"Networks that map each type: {names} (model.type)."
        )
    if x is None or x.layout != torch.strided or own.dataset.node_encoder or own.model.type not in ("gnn", *NETWORKS):
        return
    if x.dtype != torch.float32:
        yield f"x is {_name_type(x)}, but the layers are float32. Write data.x = data.x.float() in the loader."
    if x.is_floating_point() and not derive(source.dataset, "finite", lambda: bool(torch.isfinite(x).all())):
        wrong = ~torch.isfinite(x)
        rows = int(wrong.flatten(1).any(1).sum()) if x.dim() > 1 else int(wrong.sum())
        yield (
            f"{int(wrong.sum())} values of x are NaN or infinite (in {rows} of {len(x)} nodes). Fill them in the loader, such as "
            "data.x = data.x.nan_to_num(0.0, 0.0, 0.0)."
        )
