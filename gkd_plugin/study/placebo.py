"""Placebos of a KD configuration: the same training, taught by something that knows nothing of the items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gkd_plugin.config.files import merge
from gkd_plugin.config.kd_keys import SCHEME
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.errors import ConfigError
from gkd_plugin.groups import YOU
from gkd_plugin.plan import Plan
from gkd_plugin.space import axes
from gkd_plugin.space.sources import everybody
from gkd_plugin.study.controls import identify
from gkd_plugin.study.points import POINT, SHUFFLED, SMOOTHED, Point
from gkd_plugin.training.sources import uniform_prior


def has_placebo(plan: Plan) -> bool:
    """Whether some active term listens to somebody who knows something; a placebo has none of its own."""
    keys = [(group, part.source) for group in plan.active for part in group.active_parts]
    sources = {str(group[key]) for group, key in keys if key is not None}
    members = {member for source in sources for member in everybody(source, plan.students)}
    return bool(members - {uniform_prior.NAME}) and not plan["shuffle_sources"]


def shuffle_overrides(plan: Plan) -> list[Any]:
    """The shuffled teacher as ``key value`` pairs: each item is taught by what the source says of another item.

    Args:
        plan (Plan): The plan of a KD configuration.

    Returns:
        list: Empty where there is nothing to shuffle (:func:`has_placebo`).
    """
    return [f"{SCHEME}.shuffle_sources", True] if has_placebo(plan) else []


def smoothing_overrides(plan: Plan) -> list[Any]:
    """Label smoothing in the place of distillation as ``key value`` pairs: the preset ``label_smoothing`` for the same
    students, in the same order of updates and under the same ``predict`` rule.

    Labels and smoothing weigh 1 together, as the labels of the control do, whatever ``kd.label_weight`` the plan has:
    with 0 there would be no labels to smooth. ``None`` stands for a key that nobody wrote. On regression the configuration
    that the pairs make is refused with the reason.

    Args:
        plan (Plan): The plan of a KD configuration.

    Returns:
        list: Empty where the plan has no teacher that it could stand for (:func:`has_placebo`).
    """
    if not has_placebo(plan):
        return []
    forgotten = {"label_weight", *_list_unused_keys(plan)}
    scheme = plan.as_dict()[SCHEME]
    pairs: dict[str, Any] = {f"{SCHEME}.preset": SMOOTHED}
    if not plan["cohort"]:
        pairs[f"{SCHEME}.students"] = plan.students
    for name, origin in plan.origins.items():
        group, key = name.split(".")
        if origin == YOU and (group != SCHEME or key in forgotten):
            pairs[name] = None
        elif origin.startswith("preset ") and group == SCHEME and key not in forgotten:
            pairs[name] = scheme[key]
    for name, found in plan.groups.items():
        if axes.knowledge[name].marked and (found.named or plan["cohort"]):  # marked layers would add heads
            pairs[f"kd_{name}.{found.parts[0].weight}"] = 0
    return [part for pair in pairs.items() for part in pair]


def _list_unused_keys(plan: Plan) -> set[str]:
    """The keys of sources in the group ``kd``, but for those of the one that ``kd.predict`` evaluates."""
    unused = {key.name for name in axes.sources for key in axes.sources[name].keys}
    used = axes.sources[plan["predict"]].keys if plan["predict"] in axes.sources else ()
    return unused - {key.name for key in used}


def add_placebos(
    points: Iterable[Point], configs: Mapping[str, Config]
) -> tuple[list[Point], dict[str, Config], list[str]]:
    """The points, and for each that distils its placebos that no other point is already.

    Args:
        points (iterable of Point): The points.
        configs (mapping): Their configurations by name.

    Returns:
        tuple: All points, placebos last; the configurations of the new ones by name; and why some have none.
    """
    given = list(points)
    added: dict[str, Point] = {}
    new: dict[str, Config] = {}
    refused: dict[str, int] = {}
    for point in given:
        config = configs[point.name]
        if point.role != POINT:
            continue
        for role, word, pairs in (
            (SHUFFLED, "shuffled", shuffle_overrides(config.plan)),
            (SMOOTHED, "smoothed", smoothing_overrides(config.plan)),
        ):
            if pairs:
                try:
                    placebo = read_config(merge(config.values, pairs), path=config.path)
                except ConfigError as error:  # label smoothing on regression
                    why = f"no placebo {role}: {error.problems[0]}"
                    refused[why] = refused.get(why, 0) + 1
                    continue
                name = f"{word}-{identify(placebo)[:8]}"
                new[name] = placebo
                before = added.get(name, Point(name, placebo.values, point.choices, role))
                shared = {alias: value for alias, value in before.choices.items() if point.choices.get(alias) == value}
                added[name] = replace(before, choices=shared, of=(*before.of, point.name))
    said = [f"{why} ({count} configuration{'s' if count > 1 else ''})" for why, count in refused.items()]
    return [*given, *added.values()], new, said
