"""What is trusted in a data folder: which names may be joined to it, and which code its files may run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from yacs.config import CfgNode

from gkd_plugin.errors import Problem

PARTS_OF_PATHS = ("/", "\\", "..", "\0")
SAFE, UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
JOINED = ("PyG", "gkd", "OGB")  # where C:name would be another drive
READS_SAFELY = ("PyG", "gkd")  # ogb keeps whole objects in its files


def check_names(dataset: CfgNode) -> list[Problem]:
    """The mistakes in ``dataset.name`` and ``dataset.format`` as names, for any format.

    The host joins the name to ``dataset.dir``, and PyG unpickles what it finds there: a name that leads to another folder,
    say in the configuration of somebody else's run, would run what lies in that folder.
    """
    own = dataset.format == "gkd" and re.fullmatch(r"[\w.]+:\w+", str(dataset.name)) is not None  # a function
    problems = []
    for key in ("name", "format"):
        word = str(dataset[key])
        parts = [part for part in PARTS_OF_PATHS if part in word] + (["~"] if word.startswith("~") else [])
        parts += [":"] if ":" in word and dataset.format in JOINED and not (own and key == "name") else []
        if parts:
            found = f"{word!r} is a path ({', '.join(map(repr, parts))} in it)"
            allowed = f"Allowed: a plain {key}. dataset.dir names the folder that contains the data set."
            problems.append(Problem(f"dataset.{key}", found, allowed))
    return problems


@contextmanager
def reading(format: str) -> Iterator[None]:
    """While the host reads files of this format, PyTorch's unpickler makes tensors and plain values only.

    Does nothing for other formats, and where the environment asks for the contrary.
    """
    safe = format in READS_SAFELY and not os.environ.get(UNSAFE)
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


def know_storages() -> None:
    """Lets the safe unpickler know the containers of a graph: OGB and ``torch.save(data)`` save whole graphs where PyG's data
    sets save their values.

    They hold tensors and plain values and run nothing. Anything else in such a file is refused as ever.
    """
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

    torch.serialization.add_safe_globals(
        [DataEdgeAttr, DataTensorAttr, BaseStorage, EdgeStorage, GlobalStorage, NodeStorage]
    )
