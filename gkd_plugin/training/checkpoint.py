"""Checkpoints at epoch boundaries; a damaged file loses only that checkpoint.

A file holds tensors and plain values only and is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gkd_plugin.errors import RunFailed, describe_error
from gkd_plugin.models.rng import random_state, set_random_state
from gkd_plugin.training.disk import is_disk_error

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

    def __init__(self, folder: Path, period: int = 1) -> None:
        self.folder, self.period = folder, max(period, 1)
        self._last = time.monotonic()
        self._proven = False  # whether one that was written here could be read back

    @property
    def exist(self) -> bool:
        """Whether there is one, usable or not."""
        return bool(self._files())

    def due(self, epoch: int) -> bool:
        """Whether one is due after this epoch."""
        return (epoch + 1) % self.period == 0 or time.monotonic() - self._last > _SECONDS

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Writes one and removes all but the two newest.

        Raises:
            RunFailed: If something in it cannot be written, or not be read again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch={epoch}.pt"
        try:
            write_tensors(path, state)
            if not self._proven:
                torch.load(path, weights_only=True, map_location="cpu")
                self._proven = True
        except Exception as error:
            culprit = None if is_disk_error(error) or isinstance(error, MemoryError) else _find_culprit(state)
            if culprit is None:
                raise
            path.unlink(missing_ok=True)
            raise RunFailed(culprit) from error
        self._last = time.monotonic()
        files = self._files()
        older = [number for number in sorted(files) if number < epoch]
        for number in files.keys() - {epoch, *older[-1:]}:  # one of a later epoch was of no use, or we were not here
            files[number].unlink()

    def load(self, find_fault: Callable[[Mapping[str, Any]], str | None] = lambda _: None) -> dict[str, Any] | None:
        """The newest checkpoint that can be used, or ``None``; one line for each that cannot.

        Args:
            find_fault (callable, optional): Says why the content of one cannot be used.
        """
        files = self._files()
        for number in sorted(files, reverse=True):
            fault: str | None
            try:
                state: Any = torch.load(files[number], weights_only=True, map_location="cpu")
            except Exception as error:  # torn by a crash in one of many ways; the one before it serves
                if is_disk_error(error) or isinstance(error, MemoryError):
                    raise
                fault = f"it cannot be read ({describe_error(error)})"
            else:
                fault = find_fault(state) if isinstance(state, dict) else "it is not one of ours"
                if fault is None:
                    return dict(state)
            before = max((other for other in files if other < number), default=None)
            instead = "training starts anew" if before is None else f"{files[before].name} is tried instead"
            logging.warning("gkd_plugin: %s is not used: %s; %s.", files[number], fault, instead)
        return None

    def clear(self) -> None:
        """Removes all of them; the run is finished."""
        for path in [*self._files().values(), *self._files(".part").values()]:
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self, suffix: str = "") -> dict[int, Path]:
        """The files that are ours, by epoch."""
        found = {}
        for path in self.folder.glob("epoch=*"):
            match = re.fullmatch(rf"epoch=(0|[1-9][0-9]*)\.pt{re.escape(suffix)}", path.name)
            if match and path.is_file():
                found[int(match.group(1))] = path
        return found


def _find_culprit(state: Mapping[str, Any]) -> str | None:
    """The part of a run's state that cannot be written and read again, and why."""
    for name, part in _list_parts(state):
        buffer = io.BytesIO()
        try:
            torch.save(part, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True, map_location="cpu")
        except Exception as error:
            return (
                f"a checkpoint cannot hold the state of {name}: {describe_error(error)}. Its state_dict may hold tensors, "
                "numbers, words, lists and dicts of these, and nothing else. Change it, or write no checkpoints "
                "(train.enable_ckpt False)."
            )
    return None


def _list_parts(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parts of a run's state as a person calls them."""
    for key, value in state.items():
        if key == "sources":
            yield from ((f"the source '{name}'", part) for name, part in value.items())
        elif key == "students":
            yield from ((f"student {number}", part) for number, part in enumerate(value, 1))
        else:
            yield f"'{key}'", value
