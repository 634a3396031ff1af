"""What is trusted in a data folder: which names may be joined to it, and which code its files may run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from yacs.config import CfgNode

from gkd_plugin.errors import Problem

PARTS_OF_PATHS = ("/", "\\", "..", "\0")
SAFE, UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
READS_SAFELY = ("PyG", "gkd")  # ogb keeps whole objects in its files


def check_names(dataset: CfgNode) -> list[Problem]:
    """The mistakes in ``dataset.name`` and ``dataset.format`` as names, for any format.

    The host joins the name to ``dataset.dir``, and PyG unpickles what it finds there: a name that leads to another folder,
    say in the configuration of somebody else's run, would run what lies in that folder.
    """
    problems = []
    for key in ("name", "format"):
        word = str(dataset[key])
        parts = [part for part in PARTS_OF_PATHS if part in word] + (["~"] if word.startswith("~") else [])
        if parts:
            found = f"{word!r} is a path ({', '.join(map(repr, parts))} in it)"
            allowed = f"Allowed: a plain {key}. dataset.dir names the folder that contains the data set."
            problems.append(Problem(f"dataset.{key}", found, allowed))
    return problems


@contextmanager
def reading(format: str) -> Iterator[None]:
    """While the host reads files of this format, PyTorch's unpickler makes tensors and plain values only.

    Does nothing for other formats, before PyTorch 2.4 (whose safe unpickler does not know PyG's classes), and where the
    environment asks for the contrary.
    """
    safe = format in READS_SAFELY and hasattr(torch.serialization, "add_safe_globals") and not os.environ.get(UNSAFE)
    before = os.environ.get(SAFE)
    if safe:
        os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if safe and before is None:
            del os.environ[SAFE]
        elif safe and before is not None:
            os.environ[SAFE] = before
