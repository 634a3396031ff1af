"""The dimensions of a study: their columns, and how runs without a ``study.json`` tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from torch_geometric.graphgym.utils.io import string_to_python

from gkd_plugin.study.extras import load_extra

if TYPE_CHECKING:
    import pandas as pd

# keys that differ between runs of one configuration, or follow from its data
_NO_CHOICE = (
    "out_dir",
    "run_dir",
    "cfg_dest",
    "seed",
    "params",
    "num_threads",
    "num_workers",
    "accelerator",
    "devices",
)
_NO_GROUP = ("share", "mem", "gpu_mem")
_MISSING = object()


def parse_name(name: str) -> dict[str, Any]:
    """The choices in the name of a run, ``<base>-<alias>=<value>-<alias>=<value>``, read as the host reads them.

    Args:
        name (str): The name of the run's folder.
    """
    first, *parts = name.split("=")
    alias, choices = first.rpartition("-")[2], {}
    for position, part in enumerate(parts):
        value, _, following = part.rpartition("-") if position + 1 < len(parts) else (part, "", "")
        if not alias or not (value or following):
            return {}
        choices[alias], alias = _parse(value), following
    return choices


def _parse(text: str) -> Any:
    value = string_to_python(text)
    return text if isinstance(value, (list, tuple, dict)) else value  # a table's cell holds one value


def compare_configs(folders: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The keys in which the configurations of runs differ.

    Args:
        folders (mapping): The folder of each run by its name.

    Returns:
        tuple: The dimensions (key to key), and the choices of each run.
    """
    configs = {name: flatten_config(folder / "config.yaml") for name, folder in folders.items()}
    configs = {name: values for name, values in configs.items() if values}
    keys: dict[str, None] = dict.fromkeys(key for values in configs.values() for key in values)
    differing = [
        key
        for key in keys
        if len({json.dumps(values.get(key), sort_keys=True, default=str) for values in configs.values()}) > 1
    ]
    choices = {name: {key: values.get(key) for key in differing} for name, values in configs.items()}
    return {key: key for key in differing}, choices


def flatten_config(path: Path) -> dict[str, Any]:
    """The values of a run's configuration by key; none where the file cannot be read.

    Args:
        path (Path): Its ``config.yaml``.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    flat: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        if key in _NO_CHOICE or key in _NO_GROUP:
            continue
        flat |= {f"{key}.{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def make_column(choices: Sequence[Mapping[str, Any]], alias: str) -> pd.Series:
    """The column of one dimension: numbers where all its values are numbers, otherwise text.

    Args:
        choices (sequence of mapping): The choices of each point.
        alias (str): The dimension.
    """
    pandas = load_extra("pandas")
    values = [made.get(alias, _MISSING) for made in choices]
    known = [value for value in values if value is not _MISSING]
    if known and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        whole = all(isinstance(value, int) for value in known)
        kind = "float64" if not whole else "int64" if len(known) == len(values) else "Int64"
        return pandas.Series([None if value is _MISSING else value for value in values], dtype=kind)
    return pandas.Series([None if value is _MISSING else _write(value) for value in values], dtype="object")


def _write(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
