"""Configurations that a run left in its folder, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from torch_geometric.graphgym.config import set_cfg
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.config import kd_keys
from gkd_plugin.config.host_values import find_bad_values
from gkd_plugin.errors import ConfigError, UserError, describe_error


def own_cfg(path: Path) -> CfgNode:
    """A configuration that was dumped into a run's folder, over the host's present defaults.

    Args:
        path (Path): ``config.yaml`` of the host or of ours, or ``student_<n>.yaml``.

    Raises:
        UserError: If it is no YAML mapping, or its values are of other kinds than the host's.
    """
    own = CfgNode()
    set_cfg(own)
    try:
        values: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {describe_error(error)}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a configuration.")
    own.set_new_allowed(True)  # the host dumps keys (run_dir, params) that it does not read back
    try:
        own.merge_from_other_cfg(CfgNode(values))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a configuration of this host: {describe_error(error)}.") from None
    read = [key for key in kd_keys.SCHEME_KEYS if key.name in ("hide_edges", "layers")]
    problems = [*find_bad_values(own), *groups.find_problems(own, kd_keys.SCHEME, read)]
    if problems:
        raise ConfigError(problems, str(path))
    return own
