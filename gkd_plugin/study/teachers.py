"""The teachers that a study's points need and nobody has trained yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gkd_plugin.commands.train_teacher import Order, order_teacher
from gkd_plugin.config.load import Config


def find_orders(configs: Iterable[Config], study: Path, repeat: int) -> list[Order]:
    """What must be trained before the points; each teacher once, with the seeds that any point asks for.

    Args:
        configs (iterable of Config): The points' configurations.
        study (Path): The folder of the study's runs. Teachers lie beside it, where other studies find them too.
        repeat (int): Seeds of each point.

    Raises:
        UserError: If a teacher's YAML is missing or wrong, or has changed since its run.
    """
    found: dict[Path, Order] = {}
    for config in configs:
        own = config.cfg.clone()
        own.out_dir = str(study.parent)
        order = order_teacher(replace(config, cfg=own), f"{study.name}/{config.name}", repeat)
        if order is None:
            continue
        if order.folder in found:
            seeds = sorted({*found[order.folder].seeds, *order.seeds})
            order = replace(found[order.folder], seeds=list(range(seeds[0], seeds[-1] + 1)))
        found[order.folder] = order
    return [replace(order, overrides=[*order.overrides, "seed", order.seeds[0]]) for order in found.values()]
