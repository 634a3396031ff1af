"""Broken configurations, run folders and teachers' files, built from the tables of keys and from what runs leave behind."""

from __future__ import annotations

import copy
import datetime
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gkd_plugin.config import kd_keys
from gkd_plugin.config.host_keys import fresh
from gkd_plugin.config.host_values import HOST_VALUES
from tests import toy
from tests.running import Code

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2.5,
    -0.5,
    1e300,
    1e155,
    2**63,
    10**30,
    float("inf"),
    float("nan"),
    "",
    "nosuch",
    "../x",
    "a\0b",
    "x" * 300,
    datetime.date(2024, 1, 31),
    [],
    [1, "a"],
    {"a": 1},
)
NEEDS: dict[str, dict[str, Any]] = {  # what makes a group count
    "kd": {"kd": {"students": 2}, "kd_response": {"weight": 1, "source": "peers"}},
    "kd_attention": {"kd_structure": {"weight": 1, "source": "peers", "layer_map": "attention"}},
    "kd_auxiliary": {"kd_auxiliary": {"weight": 1, "layers": "all"}},
}


def host_keys() -> Iterator[str]:
    """Every key of the host, those with a row in our table first."""
    yield from HOST_VALUES
    for group, part in fresh().items():
        names = [f"{group}.{leaf}" for leaf in part] if isinstance(part, dict) else [group]
        yield from (name for name in names if name not in HOST_VALUES and not name.startswith("kd"))


def our_keys() -> Iterator[str]:
    """Every key of the ``kd`` groups."""
    for group, keys in kd_keys.groups().items():
        yield from (f"{group}.{key.name}" for key in keys)


def choose_values(name: str) -> list[Any]:
    """Half of the values, the same ones every time: all of them for every key would take minutes."""
    return random.Random(name).sample(VALUES, len(VALUES) // 2)


def break_key(name: str, value: Any) -> dict[str, Any]:
    """A configuration of one epoch on toy data with this value."""
    group, _, leaf = name.rpartition(".")
    needed = NEEDS.get(group, {group: {"weight": 1, "source": "peers"}} if group.startswith("kd_") else {})
    broken = copy.deepcopy(toy.values(Path("results"), optim={"max_epoch": 1}, **needed))
    (broken.setdefault(group, {}) if group else broken)[leaf] = value
    return broken


TEXTS = {  # of a whole file
    "date": b"kd: {students: 2024-99-99}",
    "octal": b"seed: 010",
    "base sixty": b"optim: {max_epoch: 1:30}",
    "a tag that does not fit": b"seed: !!int many",
    "binary": b"seed: !!binary fh8=====",
    "a set": b"gnn: !!set {a, b}",
    "python": b"kd: {preset: !!python/object/apply:os.getcwd []}",
    "deep": b"kd: " + b"[" * 10_000 + b"]" * 10_000,
    "deep groups": b"{a: " * 5_000 + b"}" * 5_000,
    "long": b"gnn: {layer_type: " + b"x" * 10_000_000 + b"}",
    "a long key": b"gnn: {" + b"x" * 10_000_000 + b": 1}",
    "a long number": b"seed: " + b"9" * 5_000,
    "many aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 108))
    + b"kd: {preset: *k}\nseed: *k\n",
    "itself": b"gnn: &g {act: *g}",
    "no text": b"\xff\xfe\x00",
    "a list": b"- 1",
    "two documents": b"seed: 1\n---\nseed: 2",
    "groups that are none": b"{gnn: 3, kd: [1], optim: relu, kd_structure: 1.5}",
    "numbers as names": b"{1: 2, 2.5: 3, null: 4, true: 5}",
}


def damage(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file's content, broken as a whole."""
    yield "empty", b""
    yield "torn", content[: len(content) // 2]
    yield "no text", b"\xff\xfe\x00" * 9
    yield "null", b"null"
    yield "list", b"[1, 2]"
    yield "word", b"word"
    yield "deep", b"[" * 10_000
    yield "code", pickle.dumps(Code())


def damage_leaves(content: bytes, dump: Callable[[Any], str], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """A JSON or YAML file with other values at some of its leaves; the same ones every time."""
    paths = list(_list_leaves(yaml.safe_load(content)))
    chosen = random.Random(seed)
    for path in chosen.sample(paths, min(count, len(paths))):
        values = yaml.safe_load(content)
        node = values
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value = chosen.choice([None, [], "word", -1, 1e300, 2**70, {"a": None}, True])
        yield f"{'.'.join(map(str, path))}: {value!r}", dump(values).encode()


def dump_json(values: Any) -> str:
    return json.dumps(values)


def _list_leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, (dict, list)) and node:
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _list_leaves(part, (*path, key))
    elif path:
        yield path


def arrays(**content: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


def _inflating() -> bytes:
    """Hundreds of megabytes of zeros in some hundred kilobytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out, out.open("logits.npy", "w") as part:
        for _ in range(300):
            part.write(bytes(2**20))
    return file.getvalue()


def teacher_files() -> dict[str, bytes]:
    """Files of logits that are none for the 48 nodes and 3 classes of the toy data."""
    good = np.zeros((48, 3), dtype=np.float32)
    found = {
        "no rows": arrays(logits=good[:0]),
        "no classes": arrays(logits=good[:, :0]),
        "one number": arrays(logits=np.float32(1)),
        "three axes": arrays(logits=good[None]),
        "too few rows": arrays(logits=good[:5]),
        "too few classes": arrays(logits=good[:, :2]),
        "NaN": arrays(logits=good * np.nan),
        "text": arrays(logits=np.array([["a"] * 3] * 48)),
        "objects": arrays(logits=np.array([[None] * 3] * 48)),
        "complex": arrays(logits=good * 1j),
        "other names": arrays(rows=good),
        "gaps in layers": arrays(logits=good, layer_2=good),
        "ids twice": arrays(logits=good, node_id=np.zeros(48, dtype=int)),
        "ids that are large": arrays(logits=good, node_id=np.arange(48, dtype=np.uint64) + 2**63),
        "inflating": _inflating(),
    }
    return found | {f"whole: {what}": content for what, content in damage(arrays(logits=good))}
