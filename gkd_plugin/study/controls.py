"""The control of each point: the same cohort without distillation, once however many points share it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from gkd_plugin.commands.run import control_overrides
from gkd_plugin.config import kd_keys
from gkd_plugin.config.files import merge
from gkd_plugin.config.host_keys import is_kd
from gkd_plugin.config.kd_keys import SCHEME, SCHEME_KEYS
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.errors import UserError
from gkd_plugin.models.aux_layers import PREFIX
from gkd_plugin.plan import Plan
from gkd_plugin.space.sources import stand_ins
from gkd_plugin.study.points import CONTROL, POINT, Point
from gkd_plugin.training.claim import CONFIG
from gkd_plugin.training.run_folder import PLAN

_OF_TEACHING = (
    "preset",
    "peer_mode",
    "peer_target",
    "label_weight",
    "layers",
    "shuffle_sources",
)  # without a term they change nothing
_PLACES = ("out_dir", "run_dir", "print", "cfg_dest", "tensorboard_agg", "tensorboard_each_run")


def make_control(config: Config) -> dict[str, Any]:
    """The values of a configuration's control: all KD weights 0, ``label_weight`` 1, the same ``predict`` rule.

    What only says who teaches is left out, so that configurations that differ in nothing else have equal controls.

    Args:
        config (Config): The configuration.
    """
    plan = config.plan
    if plan["predict"] in stand_ins():  # a source answers, so its own keys count
        return merge(config.values, control_overrides(plan))
    kept = {key.name: plan[key.name] for key in SCHEME_KEYS if key.name not in _OF_TEACHING}
    defaults = {key.name: key.default for key in SCHEME_KEYS}
    kd = {name: value for name, value in kept.items() if value != defaults[name]}
    if plan["cohort"]:
        kd.pop("students", None)
    values = {key: part for key, part in config.values.items() if not is_kd(key)}
    values["kd"] = {"preset": "supervised", **{name: _plain(value) for name, value in kd.items()}}
    if plan["cohort"] or str(config.cfg.gnn.layer_type).startswith(PREFIX):  # marked layers would bring heads
        values["kd_auxiliary"] = {"weight": 0}
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def describe_control(choices: Mapping[str, Any], dimensions: Mapping[str, str]) -> dict[str, Any]:
    """The choices that still hold for a control: it teaches nothing, whatever preset its cohort has.

    Args:
        choices (mapping): What the cohorts that share it have in common, by alias.
        dimensions (mapping): The key of each alias; the alias itself, where only names of runs are known.
    """
    kept = {}
    for alias, key in dimensions.items():
        group, _, leaf = key.partition(".")
        if key in ("kd.preset", "preset"):
            kept[alias] = "supervised"
        elif alias in choices and not (leaf in _OF_TEACHING if group == SCHEME else is_kd(group)):
            kept[alias] = choices[alias]
    return kept


def is_control(plan: Plan) -> bool:
    """Whether a plan distils nothing and trains by labels alone, as a control does."""
    return not plan.active and plan["label_weight"] == 1


def identify(config: Config) -> str:
    """Equal for configurations that train alike: a hash of host's keys, plan and further students, not of places."""
    defaults = {name: {key.name: key.default for key in keys} for name, keys in kd_keys.groups().items()}
    # without what is left as it was: a later version may have further keys
    decided = {
        name: {key: value for key, value in part.items() if value != defaults[name].get(key)}
        for name, part in config.plan.as_dict().items()
    }
    parts = [_dump(config.cfg), decided, *map(_dump, config.further)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _dump(cfg: CfgNode) -> Mapping[str, Any]:
    values: dict[str, Any] = yaml.safe_load(cfg.dump())
    return {key: part for key, part in values.items() if key not in _PLACES and not is_kd(key)}


def add_controls(points: Iterable[Point], configs: Mapping[str, Config]) -> tuple[list[Point], dict[str, Config]]:
    """The points with the names of their controls, and the controls that are not points already.

    Args:
        points (iterable of Point): The points.
        configs (mapping): Their configurations by name.

    Returns:
        tuple: All points, controls last, and the configurations of the new ones by name.
    """
    given = list(points)
    known: dict[str, str] = {}
    for point in given:
        if is_control(configs[point.name].plan):
            known.setdefault(identify(_read_control(configs[point.name])), point.name)
    found: list[Point] = []
    new: dict[str, Config] = {}
    controls: dict[str, Point] = {}
    for point in given:
        if point.role != POINT or is_control(configs[point.name].plan):
            found.append(point)
            continue
        control = _read_control(configs[point.name])
        identity = identify(control)
        if identity not in known:
            name = f"control-{identity[:8]}"
            known[identity] = name
            new[name] = control
            controls[name] = Point(name, control.values, point.choices, CONTROL)
        elif known[identity] in controls:  # what all points of one control have in common describes it
            control_point = controls[known[identity]]
            shared = {
                alias: value for alias, value in control_point.choices.items() if point.choices.get(alias) == value
            }
            controls[control_point.name] = replace(control_point, choices=shared)
        found.append(replace(point, control=known[identity]))
    return [*found, *controls.values()], new


def _read_control(config: Config) -> Config:
    return read_config(make_control(config), path=config.path)


def match_controls(folders: Mapping[str, Path]) -> dict[str, str]:
    """The controls among runs that are there already, such as those of a grid that the host's scripts ran.

    Args:
        folders (mapping): The folder of each run by its name.

    Returns:
        dict: For each run that distils and has its control among the others the name of that.
    """
    configs: dict[str, Config] = {}
    for name, folder in folders.items():
        if (folder / PLAN).is_file():  # runs of the host's own loop take other epochs and have no such test score
            with contextlib.suppress(UserError):  # of a package that is not installed here, say
                configs[name] = read_config(folder / CONFIG)
    identities = {name: identify(_read_control(config)) for name, config in configs.items()}
    known: dict[str, str] = {}
    for name, config in configs.items():
        if is_control(config.plan):
            known.setdefault(identities[name], name)
    return {
        name: known[identities[name]]
        for name, config in configs.items()
        if config.plan.active and identities[name] in known
    }
