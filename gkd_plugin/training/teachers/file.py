"""A teacher that is a file: logits and hidden states by node id, whoever computed them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.training.teachers.base import check_observation, make_outline

SUFFIXES = (".npz", ".safetensors")
_PIECE = 2**16  # rows that are looked through at once
_LARGE, _INFLATED = 2**28, 100  # bytes of all arrays; how many times the file's own size


class StoredTeacher:
    """Logits and hidden states by node id, from a ``.npz`` or ``.safetensors`` file.

    The file holds ``logits`` ``[N, C]`` (or ``[N]``) and, where layers are compared, ``layer_1`` ... ``layer_L``
    ``[N, d]``; rows are in the order of node ids, or ``node_id`` ``[N]`` says which node each row is. Every tap reads
    the same layers.

    Args:
        path (Path): The file.

    Raises:
        UserError: If it cannot be read without running code, lacks ``logits``, or holds rows that are missing or not
            finite.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.path = path.name, path
        arrays = _read(path)
        if "logits" not in arrays:
            raise UserError(
                f"kd.teacher: {path} contains {', '.join(arrays) or 'nothing'}; it needs 'logits' [nodes, classes]."
            )
        names = self._list_layer_names(arrays)
        for name in ("logits", *names):
            widths = (1, 2) if name == "logits" else (2,)
            if arrays[name].dim() not in widths or arrays[name].is_complex():
                shape = list(arrays[name].shape)
                raise UserError(f"kd.teacher: {name} in {path} has the shape {shape}; it must be [nodes, numbers].")
        if len(arrays["logits"]) == 0:
            raise UserError(f"kd.teacher: logits in {path} has no rows. Every node needs one.")
        unread = {name: each for name, each in arrays.items() if name not in ("logits", "node_id", *names)}
        self._refuse_numbers(unread, len(arrays["logits"]))
        order = self._find_order(arrays.get("node_id"), len(arrays["logits"]))
        count = len(arrays["logits"])
        self.logits = self._read_rows("logits", arrays["logits"], order, count)
        self.layers = tuple(self._read_rows(name, arrays[name], order, count) for name in names)

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        if sample.task.level != "node":
            raise UserError(
                f"kd.teacher: {self.path} contains rows by node, but this is a task on {sample.task.level}s. "
                "Files teach node tasks only; name a run, or hand a module to gkd_plugin.run(teacher=...)."
            )
        graph = sample.graph("train")
        ids, count = graph.node_id, len(self.logits)
        if ids is None and count != graph.num_nodes:
            raise UserError(
                f"kd.teacher: {self.path} has {count} rows, the graph {graph.num_nodes} nodes; every node needs one."
            )
        if ids is not None and int(ids.max()) >= count:
            raise UserError(
                f"kd.teacher: {self.path} has {count} rows and none for node {int(ids.max())}; every node needs one."
            )
        rows = slice(None) if ids is None else ids.cpu()
        device = sample.batch.edge_index.device
        states = tuple(layer[rows].to(device) for layer in self.layers)
        seen = Observation(self.logits[rows].to(device), {tap: states for tap in taps} if states else {}, graph)
        return check_observation(seen, sample, taps, f"kd.teacher: {self.path}")

    def outline(self, seen: Observation) -> Outline:
        return make_outline(seen)

    def _list_layer_names(self, arrays: dict[str, Tensor]) -> list[str]:
        found = [name for name in arrays if name.startswith("layer_")]
        names = [f"layer_{number}" for number in range(1, len(found) + 1)]
        if set(found) != set(names):
            raise UserError(
                f"kd.teacher: {self.path} contains {', '.join(sorted(found))}; layers must be called "
                f"{', '.join(names)}, from the first to the last."
            )
        return names

    def _refuse_numbers(self, arrays: dict[str, Tensor], rows: int) -> None:
        """Node numbers under another name would not be read, and every row would teach another node."""
        for name, array in arrays.items():
            whole = not array.is_floating_point() and not array.is_complex() and array.dtype != torch.bool
            if whole and array.shape == (rows,) and rows > 1 and array.long().unique().numel() == rows:
                raise UserError(
                    f"kd.teacher: {name} in {self.path} has a whole number of its own for each row. If these are the nodes' "
                    "numbers, call it node_id; otherwise take it out, for nothing reads it."
                )

    def _find_order(self, ids: Tensor | None, rows: int) -> Tensor | None:
        """The place of each node's row; ``None`` where that is the node's number."""
        if ids is None:
            return None
        # a boolean or fractional id is no id
        whole = not ids.is_floating_point() and not ids.is_complex() and ids.dtype != torch.bool
        order = torch.argsort(ids.long()) if whole and ids.shape == (rows,) else None
        if order is None or not torch.equal(ids.long()[order], torch.arange(rows)):
            beyond = (
                f" It goes up to {int(ids.long().max())}: a row is needed for every node."
                if whole and ids.numel() and int(ids.long().max()) >= rows
                else ""
            )
            raise UserError(
                f"kd.teacher: node_id in {self.path} must name each of the nodes 0 to {rows - 1} once.{beyond}"
            )
        return order

    def _read_rows(self, name: str, array: Tensor, order: Tensor | None, count: int) -> Tensor:
        """An array by node number. Of a ``.safetensors`` file in float32 it stays on the disk until rows are asked for."""
        if len(array) != count:
            raise UserError(f"kd.teacher: {name} in {self.path} has {len(array)} rows, logits has {count}.")
        rows = array.float() if order is None else array.float()[order]
        broken = [
            begin + place
            for begin, part in zip(range(0, count, _PIECE), rows.split(_PIECE), strict=True)
            for place in (~torch.isfinite(part.reshape(len(part), -1))).any(dim=1).nonzero().view(-1).tolist()
        ]
        if broken:
            where = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
            raise UserError(
                f"kd.teacher: {name} in {self.path} is NaN or infinite for {len(broken)} of {len(rows)} nodes ({where})."
            )
        return rows


def _require_size(path: Path) -> None:
    """Refuses a small file that would fill the memory when it is read."""
    with zipfile.ZipFile(path) as file:
        size = sum(part.file_size for part in file.infolist())
    if size > _LARGE and size > _INFLATED * path.stat().st_size:
        raise UserError(
            f"kd.teacher: {path} has {path.stat().st_size:,} bytes but inflates to {size / 1e9:,.1f} GB. If that is what it "
            "holds, save it with numpy.savez, which does not compress."
        )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".npz":
            _require_size(path)
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
            f"kd.teacher: {path} cannot be read as plain arrays; nothing else is loaded ({describe_error(error)})."
        ) from None
