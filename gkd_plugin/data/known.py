"""Which data sets there are: names that the host, OGB or we can load, told before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from torch_geometric.graphgym import register
from yacs.config import CfgNode

from gkd_plugin.data.loaders import FORMAT, LOADERS
from gkd_plugin.data.names import DATA_SETS, find_folder, find_missing_package, find_tu
from gkd_plugin.data.own import FILE, find_file, names_function, report_no_file
from gkd_plugin.errors import OF_YOUR_OWN, Problem, nearest, quote

PYG_NAMES = (
    "Cora CiteSeer PubMed PPI AmazonComputers AmazonPhoto CoauthorCS CoauthorPhysics Karate MNIST QM7b TU_<name> digits digits_k<n>"
).split()
GKD_NAMES = [*DATA_SETS, "TU_<name>", "digits", "digits_k<n>", "my_module:function", f"a folder with a {FILE}"]
OGB_NAMES = ["ogbn-<name>", "ogbg-<name>", "ogbl-<name>"]
KNOWN = {"PyG": PYG_NAMES, FORMAT: GKD_NAMES, "OGB": OGB_NAMES}


def check_known(dataset: CfgNode) -> list[Problem]:
    """The mistakes in ``dataset.format`` and ``dataset.name``; none where a loader of the user's may answer to any word.

    Args:
        dataset (CfgNode): The configuration's group.
    """
    format, name = str(dataset.format), str(dataset.name)
    if not set(register.loader_dict) <= set(LOADERS):
        return []
    if format not in KNOWN:
        allowed = (
            f"{nearest(format, KNOWN)}Allowed: {', '.join(KNOWN)}, or what a registered loader takes. {OF_YOUR_OWN}"
        )
        return [Problem("dataset.format", f"{quote(format)} is unknown", allowed)]
    if format == "OGB" and find_spec("ogb") is None:
        return [Problem("dataset.format", "'OGB' needs the package ogb", "Install it: pip install ogb.")]
    if format in ("PyG", FORMAT) and (meant := find_tu(name, str(dataset.dir))):
        found = f"{quote(name)} is not there, but {meant} is (in {dataset.dir})"
        return [Problem("dataset.name", found, f"Did you mean '{meant}'? TU's names have one spelling.")]
    if not _is_known(format, name):
        root = Path(str(dataset.dir)) / name
        if format == FORMAT and (names_function(name) or find_file(root)):
            return []
        if format == FORMAT and name and root.is_dir():
            return [report_no_file(name, root)]
        words = KNOWN[format]
        allowed = f"{nearest(name, words)}Allowed: {', '.join(words)}, or the name of a registered loader's data set. {OF_YOUR_OWN}"
        found = f"{quote(name)} is unknown under dataset.format: {format}"
        if format == FORMAT and name:
            found += f", and there is no {root / FILE}"
        return [Problem("dataset.name", found, allowed)]
    return list(_check_named(dataset)) if format == FORMAT and name in DATA_SETS else []


def _check_named(dataset: CfgNode) -> Iterator[Problem]:
    name = str(dataset.name)
    problem, meant = find_missing_package(name, find_folder(name, str(dataset.dir))), DATA_SETS[name].task
    if problem is not None:
        yield problem
    if (meant == "graph") != (dataset.task == "graph"):
        yield Problem("dataset.task", f"{quote(dataset.task)}, but {name} is for {meant} tasks", f"Write {meant}.")


def _is_known(format: str, name: str) -> bool:
    if format == "OGB":
        return name.replace("_", "-").startswith(("ogbn-", "ogbg-", "ogbl-"))
    if format == "PyG" and any(part in name for part in ("Coauthor", "Amazon")):  # all that the host looks at
        return True
    return name in KNOWN[format] or re.fullmatch(r"TU_.+|digits_k\d+", name) is not None
