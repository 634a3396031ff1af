"""Whose code an exception came from: the frames of a user's own files and of plugins, without ours and the libraries'."""

from __future__ import annotations

import traceback

from gkd_plugin.errors import is_installed, is_ours
from gkd_plugin.plugins import find_plugin


def describe_own_code(error: BaseException) -> str:
    """One line that says whose code failed, and its traceback shortened to that code; nothing where there is none.

    Args:
        error (BaseException): What was raised.
    """
    frames, owners = [], []
    for (frame, _), summary in zip(
        traceback.walk_tb(error.__traceback__), traceback.extract_tb(error.__traceback__), strict=True
    ):
        plugin = find_plugin(str(frame.f_globals.get("__name__", "")))
        if plugin is not None or not (is_installed(summary.filename) or is_ours(summary.filename)):
            frames.append(summary)
            owners.append(plugin)
    if not frames:
        return ""
    owner = f"the plugin {owners[-1]}" if owners[-1] is not None else "your own code"
    lines = [f"{owner} failed ({frames[-1].filename}):", *traceback.format_list(frames)]
    return "\n".join(line.rstrip() for line in [*lines, *traceback.format_exception_only(error)])
