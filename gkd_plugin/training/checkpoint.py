"""Checkpoints at epoch boundaries; a torn one costs one checkpoint.

A file holds tensors and plain values only and is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gkd_plugin.models.rng import random_state, set_random_state

_SECONDS = 20.0  # an interruption costs at most this much work, for any ckpt_period


def write_atomically(path: Path, write: Any) -> None:
    """Writes a file under another name first, so that it is never read half-written."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_tensors(path: Path, values: Mapping[str, Any]) -> None:
    """Writes tensors and plain values for ``torch.load(..., weights_only=True)``."""
    buffer = io.BytesIO()  # on a full disk torch.save itself would speak of its archive and not of the disk
    torch.save(dict(values), buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def global_random_state() -> dict[str, Any]:
    """torch's, numpy's and Python's global random states as plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the host draws from the legacy stream
    version, internal, gauss = random.getstate()
    return {
        "torch": random_state(),
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def set_global_random_state(state: Mapping[str, Any]) -> None:
    """Restores what :func:`global_random_state` returned."""
    set_random_state(list(state["torch"]))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


class Checkpoints:
    """The two newest checkpoints of one run.

    Args:
        folder (Path): Where they are kept.
        period (int): Epochs between two of them (``train.ckpt_period``); one is also due every 20 seconds.
    """

    def __init__(self, folder: Path, period: int) -> None:
        self.folder, self.period = folder, max(period, 1)
        self._last = time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether one is due after this epoch."""
        return (epoch + 1) % self.period == 0 or time.monotonic() - self._last > _SECONDS

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Writes one and removes all but the two newest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self.folder / f"epoch={epoch}.pt", state)
        self._last = time.monotonic()
        for old in self._files()[2:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or ``None``."""
        for path in self._files():
            try:
                state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            except Exception:  # torn by a crash in one of many ways; the one before it serves
                continue
            return state
        return None

    def clear(self) -> None:
        """Removes all of them; the run is finished."""
        for path in self.folder.glob("epoch=*.pt*"):
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        found = {int(path.stem.removeprefix("epoch=")): path for path in self.folder.glob("epoch=*.pt")}
        return [found[epoch] for epoch in sorted(found, reverse=True)]
