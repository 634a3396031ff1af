"""YAML files and ``key value`` pairs as plain nested values, merged once, so that yacs's type rule does not apply."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.errors import UserError, cut, nearest, quote

SUFFIXES = (".yaml", ".yml")

_LARGEST = 100_000  # values in a file, aliases written out


class _Loader(yaml.SafeLoader):
    """YAML without what it silently makes of a value: of two equal keys the last, a date, a number of another base."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_OTHER_BASE = re.compile(r"[-+]?0_*[0-7][0-7_]*|[-+]?[0-9_]+(:[0-9_]+)+(\.[0-9_]*)?")  # octal, and sixty as the base


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise UserError(
                f"line {key_node.start_mark.line + 1}: the key '{cut(str(key))}' is defined twice. Remove one."
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    plain = loader.construct_yaml_int if node.tag.endswith(":int") else loader.construct_yaml_float
    value = plain(node)
    if _OTHER_BASE.fullmatch(node.value):
        raise UserError(
            f"line {node.start_mark.line + 1}: YAML reads {cut(node.value)} as {value}. Write that number, or quote the text."
        )
    return value


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)


def read_file(path: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises:
        UserError: If it is missing, is not YAML, or contains anything but groups of keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(_report_missing(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder. Name a YAML file in it{_list_files(path)}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    return _parse(text, str(path))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, Loader=_Loader)
        written_out = _count(content, {})
    except UserError as error:
        raise UserError(f"{where}, {error}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply. Groups have one level of keys.") from None
    except (yaml.YAMLError, ValueError) as error:  # the second: a tag that does not fit its value, such as !!int a
        raise UserError(f"{where} is not YAML: {cut(' '.join(str(error).split()))}.") from None
    if written_out > _LARGEST:
        raise UserError(
            f"{where} stands for more than {_LARGEST:,} values: its aliases (*name) multiply. Write it without them."
        )
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"{where} contains {type(content).__name__}, not keys. Write lines like 'kd: {{preset: mutual}}'."
        )
    return {str(key): value for key, value in content.items()}


def _count(value: Any, known: dict[int, int]) -> int:
    """How many values this is where every alias is written out; one that contains itself is endless."""
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) not in known:
        known[id(value)] = _LARGEST  # of itself, as long as it is not known
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in inside)
    return known[id(value)]


def _report_missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist, nor does the folder {folder}."
    names = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    hint = nearest(path.name, names) or nearest(f"{path.name}.yaml", names)
    beside = f"In {folder}: {', '.join(names[:10])}." if names else ""
    return f"{path} does not exist. {hint}{beside}".rstrip()


def _list_files(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    return f" ({', '.join(names[:10])})" if names else ""


def merge(values: Mapping[str, Any], overrides: Sequence[Any]) -> dict[str, Any]:
    """A copy of ``values`` with ``key value`` pairs applied.

    Args:
        values (mapping): Nested values.
        overrides (sequence): ``["kd.students", "3", ...]``; text is read as YAML reads it.

    Raises:
        UserError: If a value is missing, or a key has more than two levels.
    """
    merged = copy.deepcopy(dict(values))
    items = list(overrides)
    if len(items) % 2:
        equal = next((item for item in items if isinstance(item, str) and "=" in item), None)
        hint = f" Write '{equal.replace('=', ' ', 1)}'." if equal else ""
        raise UserError(f"the key '{items[-1]}' has no value. Overrides are pairs: key value key value.{hint}")
    for key, raw in zip(items[::2], items[1::2], strict=True):
        _put(merged, str(key), _parse_scalar(str(key), raw))
    return merged


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    parts = key.split(".")
    if len(parts) > 2 or not all(parts):
        raise UserError(f"'{key}' is not a valid key. Keys have one or two levels: num_threads, kd.students.")
    if len(parts) == 1:
        values[key] = value
        return
    group = values.setdefault(parts[0], {})
    if group is None:
        group = values[parts[0]] = {}
    if not isinstance(group, dict):
        raise UserError(f"'{key}' cannot be set: {parts[0]} is {quote(group)}, not a group.")
    group[parts[1]] = value


def _parse_scalar(key: str, raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    if raw == "None":  # as on the host's command line
        return None
    try:
        return yaml.load(raw, Loader=_Loader)
    except UserError as error:
        raise UserError(f"the value of '{key}': {str(error).partition(': ')[2]}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"the value of '{key}' is not YAML: {quote(raw)}. Quote it.") from None
