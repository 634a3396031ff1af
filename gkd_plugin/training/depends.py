"""What a result depends on beside its configuration: its teachers and its data, each as one hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data.data import BaseData
from torch_geometric.loader import DataLoader

from gkd_plugin.data.keep import derive
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.plan import Plan
from gkd_plugin.space.sources import listening
from gkd_plugin.training.sources.teacher import NAME
from gkd_plugin.training.teachers.prepare import digest_teachers

DATA, TEACHERS = "data", "teachers"
ADVICE = (
    "Start anew with --fresh, in Python fresh=True (the earlier run is kept under a dated name), or choose another --name. "
    "Nothing was changed."
)


def find_depends(
    plan: Plan, loaders: Sequence[Any], run_folder: Path, seed_folder: int, given: nn.Module | None = None
) -> dict[str, Any]:
    """The sha256 of a seed's data and, where one is listened to, of its teachers.

    Args:
        plan (Plan): The plan.
        loaders (sequence): The host's loaders of this seed, before anything is trained on them.
        run_folder (Path): The run's folder.
        seed_folder (int): The number of the seed's folder.
        given (nn.Module, optional): A teacher that is not a run.
    """
    found: dict[str, Any] = {DATA: digest_data(loaders)}
    if any(listening(plan, NAME)):
        found[TEACHERS] = digest_teachers(plan, run_folder, seed_folder, given)
    return found


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What has changed, in words; ``None`` where nothing has, as far as ``before`` says anything.

    Args:
        before (mapping): What was recorded; empty in files of earlier versions.
        now (mapping): What :func:`find_depends` gives now, or a part of it.
    """
    changes = []
    if before.get(DATA, now.get(DATA)) != now.get(DATA, before.get(DATA)):
        changes.append("its data set (features, labels, edges or splits)")
    if TEACHERS in before and TEACHERS in now:
        theirs, ours = before[TEACHERS], now[TEACHERS]
        changes += [f"its teacher '{name}'" for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if not changes:
        return None
    return f"{' and '.join(changes)} {'have' if len(changes) > 1 else 'has'} changed since"


def digest_data(loaders: Sequence[Any]) -> str:
    """The sha256 of all tensors that loaders serve from: graphs, labels, masks, and which graphs are in which split.

    Args:
        loaders (sequence): The host's loaders. What a transform or a sampler draws from these tensors is not part of it.
    """
    first = getattr(loaders[0], "dataset", None) if loaders else None
    shared = all(type(loader) is DataLoader and loader.dataset is first for loader in loaders)
    return derive(first, ("digest", len(loaders)), lambda: _digest(loaders)) if shared else _digest(loaders)


def _digest(loaders: Sequence[Any]) -> str:
    seen: set[int] = set()
    parts: list[Any] = []
    for loader in loaders:
        dataset = getattr(loader, "dataset", None)
        parts.append(getattr(dataset, "_indices", None))  # of a part of the graphs
        # PyG's samplers keep their graph beside the loader
        for source in (getattr(loader, "data", None), getattr(dataset, "_data", None), *_list_graphs(dataset)):
            if isinstance(source, BaseData) and id(source) not in seen:
                seen.add(id(source))
                parts.append(source.to_dict())
        slices = getattr(dataset, "slices", None)
        if slices is not None and id(slices) not in seen:
            seen.add(id(slices))
            parts.append(slices)
    return compute_digest(_keep_values(parts))


def _list_graphs(dataset: Any) -> Sequence[Any]:
    return dataset if isinstance(dataset, (list, tuple)) else ()


def _keep_values(value: Any) -> Any:
    """The same with what is neither tensor nor plain value left out: its text may hold an address."""
    if isinstance(value, Mapping):
        return {str(key): _keep_values(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_keep_values(part) for part in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    if isinstance(value, Tensor) and value.layout != torch.strided:
        entries = value.to_sparse_coo().coalesce()
        return [list(value.shape), entries.indices(), entries.values()]
    return value if isinstance(value, (Tensor, bool, int, float, str)) else None
