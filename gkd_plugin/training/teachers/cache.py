"""Cached observations of frozen teachers on fixed graphs, on disk for later runs (the environment variable ``GKD_STORE``).

A file is used only for exactly the same inputs: its name is a hash of the weights, the data with their split, the taps, the teacher's
configuration and everything else that decides the numbers. What terms derive from it (edge distributions) has files of
its own, whose names add the keys and the pairs of nodes. Nothing but tensors and plain values is ever loaded.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric import __version__ as host_version

from gkd_plugin.errors import UserError
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.space.observation import Keep, Observation
from gkd_plugin.training.checkpoint import write_tensors

VARIABLE = "GKD_STORE"
# do not change what the network computes
_NO_MATTER = ("out_dir", "run_dir", "seed", "cfg_dest", "print", "params", "num_threads", "accelerator", "devices")


class Store:
    """Observations on disk.

    Args:
        folder (Path): Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_environment(cls) -> Store | None:
        """The store that ``GKD_STORE`` names, if it does.

        Raises:
            UserError: If it is not a folder.
        """
        value = os.environ.get(VARIABLE)
        if not value:
            return None
        folder = Path(value)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{VARIABLE}: {folder} is not a folder. Name one, or unset the variable.")
        return cls(folder)

    def load(self, key: str, sample: Sample) -> Observation | None:
        """What was kept under a key, or ``None`` where it is missing, damaged or not what its name says."""
        device = sample.batch.edge_index.device
        with contextlib.suppress(Exception):  # a torn file raises nearly anything; it is written anew
            found = self._read(key)
            labels = found["labels"]
            hidden = {tap: tuple(state.to(device) for state in states) for tap, states in found["hidden"].items()}
            labels = labels.to(device) if labels is not None else None
            graph = sample.graph("train")
            graphs = tuple(graph.moved(edges.to(device)) for edges in found["graphs"])
            return Observation(found["logits"].to(device), hidden, graph, labels, graphs=graphs)
        return None

    def save(self, key: str, seen: Observation, sample: Sample) -> Observation:
        """Keeps an observation, and gives it as it lies on the disk; where that refuses, as it is."""
        values = {
            "logits": seen.logits.cpu(),
            "labels": seen.labels.cpu() if seen.labels is not None else None,
            "hidden": {tap: [state.cpu() for state in states] for tap, states in seen.hidden.items()},
            "graphs": [graph.edge_index.cpu() for graph in seen.graphs],
        }
        self._write(key, values)
        kept = self.load(key, sample)
        return seen if kept is None else kept

    def keep(self, key: str, device: torch.device) -> Keep:
        """Keeps what is derived on ``device`` from the observation under ``key``, in a file for each tensor."""

        def derived(parts: tuple[Any, ...], compute: Callable[[], Tensor]) -> Tensor:
            own = compute_digest([key, parts])
            with contextlib.suppress(Exception):  # as above
                kept: Tensor = self._read(own)["value"].to(device)
                return kept
            value = compute().detach()
            self._write(own, {"value": value.cpu()})
            return value

        return derived

    def _read(self, key: str) -> dict[str, Any]:
        # mapped, not read: rows come from the disk when a batch asks for them
        found: dict[str, Any] = torch.load(self._path(key), weights_only=True, map_location="cpu", mmap=True)
        if found["key"] != key or found.pop("content") != compute_digest(found):
            raise ValueError("not what its name says")
        return found

    def _write(self, key: str, values: dict[str, Any]) -> None:
        values["key"] = key
        values["content"] = compute_digest(values)
        own = self._path(f"{key}.{uuid.uuid4().hex}")  # several runs, on several machines, may write the same one
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(own, values)
            os.replace(own, self._path(key))
        except OSError as error:
            warnings.warn(f"{VARIABLE}: {self.folder} cannot be written ({error.strerror}).", stacklevel=2)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.pt"


def key_of(model: ObservedModel, sample: Sample, taps: Iterable[str]) -> str:
    """The hash of everything that decides a network's output on a graph, to the last bit."""
    from gkd_plugin import __version__  # the package is not whole yet where it imports this module

    own = model.own.clone()
    for name in _NO_MATTER:
        own.pop(name, None)
    own.dataset.pop("dir", None)
    versions, kind = (torch.__version__, host_version, __version__), sample.batch.edge_index.device.type
    where = (versions, torch.get_num_threads(), kind, torch.backends.cpu.get_cpu_capability())
    parts: list[Any] = [own.dump(), where, sorted(taps), repr(model.module)]
    return compute_digest([*parts, model.module.state_dict(), sample.batch.to_dict()])
