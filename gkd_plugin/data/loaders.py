"""Data sets under ``dataset.format: gkd``: splits drawn by seed, and data with each split's own graphs."""

from __future__ import annotations

import copy
import os.path as osp
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym.loader import create_loader, get_loader
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import LargestConnectedComponents
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.data.clouds import Meshes, refuse_keys
from gkd_plugin.data.digits import load_digits_graph
from gkd_plugin.data.keep import load_kept
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.links import TRAIN, VAL, split_links
from gkd_plugin.data.names import DATA_SETS, encode_categories, find_name, load_named
from gkd_plugin.data.own import FILE, find_file, load_file, load_function, names_function, report_no_file
from gkd_plugin.data.protocol import TRANSDUCTIVE, HeldOutNodes, hold_out
from gkd_plugin.data.relations import flatten, is_type_table
from gkd_plugin.data.split_graphs import PARTS, SplitGraphs
from gkd_plugin.data.splits import hold_out_validation, per_class_split, random_split
from gkd_plugin.data.trust import check_names
from gkd_plugin.errors import ConfigError, Problem, UserError, nearest
from gkd_plugin.host import cfg

FORMAT = "gkd"
MASKS = ("train_mask", "val_mask", "test_mask")
HELD_OUT = 0.2
"""Share of the training nodes that validate where a data set has training and test nodes only."""


def load_gkd(format: str, name: str, dataset_dir: str) -> InMemoryDataset | None:
    """The host's loader signature: the data set, split as the group ``splits`` says; ``None`` for other formats.

    Files lie where the host itself looks for them: ``<dataset_dir>/<name>/...``.

    Args:
        format (str): ``gkd``.
        name (str): One of ``DATA_SETS`` (in whatever case), ``TU_<name>``, ``digits``, ``my_module:function``, or a folder in
            ``dataset_dir`` with a ``data.pt``.
        dataset_dir (str): ``dataset.dir``.

    Raises:
        UserError: If the name is unknown, or the data set does not allow the split.

    .. code-block:: yaml

        dataset: {format: gkd, name: AmazonPhoto, task: node, task_type: classification}
        splits: {kind: per_class, largest_component: true}
    """
    if format in (FORMAT, "PyG", "OGB") and (problems := check_names(CfgNode({"format": format, "name": name}))):
        raise ConfigError(problems)  # in host programs, too: our loader is asked first
    if format != FORMAT:
        written = groups.read_written(cfg, SPLITS) if format in ("PyG", "OGB") else {}
        if written:
            found = f"does not apply to dataset.format: {format}"
            raise ConfigError(Problem(f"{SPLITS}.{key}", found, f"Set dataset.format: {FORMAT}.") for key in written)
        return None
    values = groups.read(cfg, SPLITS, SPLIT_KEYS)
    seed = cfg.seed if values["seed"] == "run" else values["seed"]
    name = find_name(name)
    dataset = (
        load_function(name, dataset_dir, seed) if names_function(name) else _load(name, osp.join(dataset_dir, name))
    )
    dataset = flatten(name, dataset)
    meshes = isinstance(dataset, Meshes)
    if isinstance(dataset, Meshes):
        dataset = dataset.draw(values, seed)
    else:
        refuse_keys(name, groups.read_written(cfg, SPLITS))
    if not cfg.dataset.node_encoder:  # which reads them as they are
        encode_categories(dataset, DATA_SETS.get(name))
    if values["protocol"] != TRANSDUCTIVE:
        data, notes = _split_nodes(name, _take_one_graph(name, dataset), values, seed)
        held = hold_out(data, values, seed)
        held.gkd_notes = notes
        return held
    if meshes:
        return dataset
    if len(dataset) == 1:
        data, dataset.gkd_notes = _split_nodes(name, dataset[0], values, seed)
        dataset.data, dataset.slices = dataset.collate([data])
        return dataset
    return _split_graphs(name, dataset, values, seed)


def _load(name: str, root: str) -> InMemoryDataset:
    dataset = load_named(name, root)
    if dataset is not None:
        return dataset
    digits = load_digits_graph(FORMAT, name, root)
    if digits is None and (file := find_file(root)) is not None:
        return load_file(file)
    if digits is None:
        if osp.isdir(root):
            raise ConfigError([report_no_file(name, root)])
        known = (*DATA_SETS, "TU_<name>", "digits", "my_module:function", f"a folder with a {FILE}")
        raise UserError(
            f"dataset.name: '{name}' is unknown under dataset.format: {FORMAT}, and there is no {osp.join(root, FILE)}. "
            f"{nearest(name, known)}"
            f"Allowed: {', '.join(known)}."
        )
    return digits


def _take_one_graph(name: str, dataset: InMemoryDataset) -> Data:
    """The graph of which nodes can be held out."""
    if len(dataset) != 1 or cfg.dataset.task != "node":
        allowed = "Only nodes of one graph are held out (dataset.task: node); whole graphs are new to a student anyway."
        found = f"it is set, but {name} is {len(dataset)} graph{'s' if len(dataset) > 1 else ''} with task: {cfg.dataset.task}"
        raise ConfigError([Problem(f"{SPLITS}.protocol", found, f"{allowed} Remove the key.")])
    for part in ("train", "val"):
        if cfg[part].sampler != "full_batch":
            found = f"'{cfg[part].sampler}', but splits.protocol holds nodes out of a whole graph"
            raise ConfigError([Problem(f"{part}.sampler", found, "Write full_batch.")])
    return dataset[0]


def _require_kind(name: str, values: Mapping[str, Any], kinds: Sequence[str], why: str) -> None:
    if values["kind"] not in (None, *kinds):
        found = f"'{values['kind']}', but {name} {why}"
        raise ConfigError([Problem(f"{SPLITS}.kind", found, f"Allowed: {', '.join(kinds)}.")])


def _split_nodes(name: str, data: Data, values: Mapping[str, Any], seed: int) -> tuple[Data, tuple[str, ...]]:
    """``data`` with three masks, and what a reader of its scores must know; of several given splits, the one at ``seed``
    modulo their number.
    """
    if values["largest_component"]:
        data = LargestConnectedComponents()(data)
    if values["row_normalize"]:
        data = _divide_by_sums(name, data)
    if cfg.dataset.task == "link_pred":
        return _split_pairs(name, data, values, seed), ()
    public = all(mask in data for mask in MASKS)
    if values["kind"] in (None, "public") and not public:
        _require_whole_split(name, data)
    if values["kind"] in (None, "public") and "train_mask" in data and "test_mask" in data and not public:
        count = int(data.train_mask.sum())
        data = hold_out_validation(data, HELD_OUT, seed)
        return data, (
            f"dataset.name: '{name}' has no validation split: {int(data.val_mask.sum())} of its {count} training nodes "
            f"({HELD_OUT:.0%}, of every class alike) validate, drawn by seed {seed}.",
        )
    if not public:
        _require_kind(name, values, ("random", "per_class"), "has no split")
    if values["kind"] in ("random", "per_class") or not public:
        return _draw(data, values, seed), ()
    if values["seed"] != "run" and all(data[mask].dim() == 1 for mask in MASKS):
        found = f"{values['seed']}, but {name} has one split of its own"
        raise ConfigError(
            [Problem(f"{SPLITS}.seed", found, "Set splits.kind: random or per_class, or remove the key.")]
        )
    for mask in MASKS:
        if data[mask].dim() > 1:
            data[mask] = data[mask][:, seed % data[mask].size(1)]
    return data, ()


def _divide_by_sums(name: str, data: Data) -> Data:
    """A copy whose rows of features sum to 1; rows of zeros stay. No row depends on another one, which may be held out."""
    data = copy.copy(data)
    for key in [key for key in data.keys() if key == "x" or is_type_table(data, key)]:
        rows = data[key]
        if bool((rows < 0).any()):
            found = f"true, but {name} has features below 0, whose sum can be 0"
            raise ConfigError(
                [Problem(f"{SPLITS}.row_normalize", found, "Normalise them yourself, and remove the key.")]
            )
        sums = rows.sum(dim=-1, keepdim=True)
        data[key] = rows / torch.where(sums > 0, sums, 1)
    return data


def _require_whole_split(name: str, data: Data) -> None:
    """A split of which a part is missing is not thrown away in silence: its test nodes would be trained on."""
    there = [mask for mask in MASKS if mask in data]
    others = [key for key in data.keys() if key.endswith("_mask") and key not in MASKS]
    if there and ("train_mask" not in there or "test_mask" not in there or any("val" in key for key in others)):
        missing = ", ".join(mask for mask in MASKS if mask not in there)
        beside = f" and {', '.join(others)}" if others else ""
        raise ConfigError(
            [
                Problem(
                    "dataset.name",
                    f"'{name}' has {', '.join(there)}{beside}, but no {missing}",
                    f"Give all three ({', '.join(MASKS)}), or write splits.kind: random or per_class, which draws another split.",
                )
            ]
        )


def _split_pairs(name: str, data: Data, values: Mapping[str, Any], seed: int) -> Data:
    if all(f"{part}_edge_index" in data for part in PARTS) and values["kind"] in (None, "public"):
        return data
    _require_kind(f"pairs of {name}", values, ("random",), "are drawn by shares of all")
    train, val = (default if values[key] is None else values[key] for key, default in (("train", TRAIN), ("val", VAL)))
    return split_links(name, data, train, val, seed)


def _split_graphs(name: str, dataset: InMemoryDataset, values: Mapping[str, Any], seed: int) -> InMemoryDataset:
    """Whole graphs are drawn as nodes are, where they have no split: for graph tasks as the indices that the host reads, for
    tasks on nodes each with all of its nodes. PPI has its split.
    """
    for key in ("largest_component", "row_normalize"):
        if values[key]:
            raise ConfigError([Problem(f"{SPLITS}.{key}", f"true, but {name} is many graphs", "Remove the key.")])
    if isinstance(dataset, SplitGraphs):
        _require_kind(name, values, ("public",), "has its own split of whole graphs")
        return dataset
    nodes, data = cfg.dataset.task == "node", dataset._data
    keys = {part: f"{part}_graph_index" for part in PARTS}
    given = values["kind"] in (None, "public")
    if given and nodes and any(mask in data for mask in MASKS):  # if one is missing, the check says it
        return dataset
    if given and all(key in data for key in keys.values()):
        chosen = {part: torch.as_tensor(data[key]) for part, key in keys.items()}
    else:
        kinds = ("random",) if nodes else ("random", "per_class")
        _require_kind(name, values, kinds, "has no split" + (", and its graphs are of no class" if nodes else ""))
        drawn = _draw(Data(y=None if nodes else data.y, num_nodes=len(dataset)), values, seed)
        chosen = {part: drawn[f"{part}_mask"].nonzero().view(-1) for part in PARTS}
    if nodes:
        return SplitGraphs({part: [dataset[number] for number in chosen[part].tolist()] for part in PARTS})
    for part, key in keys.items():
        data[key] = chosen[part]
    return dataset


def _draw(data: Data, values: Mapping[str, Any], seed: int) -> Data:
    """A split of the items; where only some nodes are predicted, of those."""
    predicted = data.get("predicted")
    if predicted is not None:
        nodes = predicted.nonzero().view(-1)
        drawn = _draw(Data(y=data.y[nodes], num_nodes=nodes.numel()), values, seed)
        for mask in MASKS:
            data[mask] = torch.zeros_like(predicted).index_put_((nodes,), drawn[mask])
        return data
    per_class = values["kind"] == "per_class"
    train, val = (
        default if values[key] is None else values[key]
        for key, default in (("train", 20 if per_class else 0.5), ("val", 30 if per_class else 0.25))
    )
    if not per_class:
        return random_split(data, train, val, seed)
    if train != int(train) or val != int(val):
        allowed = "splits.kind: per_class takes whole numbers of items per class; for shares set kind: random."
        raise ConfigError([Problem(f"{SPLITS}.train", f"{train:g} (and splits.val: {val:g})", allowed)])
    return per_class_split(data, int(train), int(val), seed)


def per_split(loaders: Sequence[DataLoader]) -> list[DataLoader]:
    """The host's loaders, each with the graphs of its own split where the data set has such (PPI, or nodes that are held out
    of training); others stay as they are.

    Args:
        loaders (sequence of DataLoader): What the host's ``create_loader`` gave for the configuration in force.
    """
    whole = getattr(loaders[0], "dataset", None)
    if not isinstance(whole, (SplitGraphs, HeldOutNodes)) or not whole.divided:
        return list(loaders)
    samplers = (cfg.train.sampler, cfg.val.sampler, cfg.val.sampler)
    return [
        get_loader(whole.of(part), sampler, cfg.train.batch_size, shuffle=part == "train")
        for part, sampler in zip(PARTS, samplers, strict=True)
    ]


def create_loaders() -> list[DataLoader]:
    """The host's ``create_loader`` with each split's graphs served to that split only (PPI, ``splits.protocol``)."""
    return per_split(create_loader())


LOADERS: dict[str, Callable[[str, str, str], InMemoryDataset | None]] = {
    "gkd_kept": load_kept,  # first of all: it asks the others
    FORMAT: load_gkd,  # before the digits' own loader, which knows no splits
    "gkd_digits": load_digits_graph,
}
