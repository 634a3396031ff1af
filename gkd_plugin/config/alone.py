"""What is wrong with one key and one value, whatever the rest of a configuration says."""

from __future__ import annotations

from typing import Any

from gkd_plugin.config import host_keys
from gkd_plugin.config.draft import read_drafts
from gkd_plugin.config.host_checks import check_names
from gkd_plugin.errors import Problem


def find_problem_alone(key: str, value: Any) -> Problem | None:
    """The mistake in a key or its value that no other key could mend, or ``None``.

    Args:
        key (str): The key, such as ``kd_structure.kernel``.
        value (Any): Its value.
    """
    *groups, leaf = key.split(".")
    values: dict[str, Any] = {leaf: value}
    for group in reversed(groups):
        values = {group: values}
    if host_keys.is_kd(key.partition(".")[0]):
        found = read_drafts(values)[1]
    else:
        own = host_keys.fresh()
        found = host_keys.place(values, own)
        if not found:
            found = [problem for problem in check_names(own) if problem.key == key]
    return found[0] if found else None
