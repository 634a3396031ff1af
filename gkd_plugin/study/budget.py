"""Equal budgets: the width at which the student that is deployed has as many parameters as asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils.comp_budget import params_count
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.data.load import load
from gkd_plugin.errors import UserError
from gkd_plugin.study.points import Point

WIDTH = "gnn.dim_inner"
_WIDEST = 2**16


class Counter:
    """Counts the parameters of one student, as it answers after training: without the heads and projections of
    distillation. Each data set is loaded once, for the number of its features and classes.
    """

    def __init__(self) -> None:
        self.shares: dict[str, CfgNode] = {}

    def count(self, config: Config, width: int | None = None) -> int:
        """The number of parameters.

        Args:
            config (Config): The configuration; of several students the first counts.
            width (int, optional): Instead of its ``gnn.dim_inner``.
        """
        own = config.cfg.clone()
        own.share = self._find_share(own)
        if width is not None:
            own.gnn.dim_inner = width
        with host.scoped(own), torch.random.fork_rng():
            return int(params_count(create_model(to_device=False)))

    def _find_share(self, own: CfgNode) -> CfgNode:
        data = repr([own.dataset, own.get("splits"), own.share])
        if data not in self.shares:
            load(own)
            self.shares[data] = own.share
        return self.shares[data].clone()


def find_budget(budget: str | int, overrides: Sequence[Any] = ()) -> int:
    """The number of parameters that ``--budget`` asks for.

    Args:
        budget (str or int): A number, or a YAML whose student has it.
        overrides (sequence): ``key value`` pairs for the YAML.

    Raises:
        UserError: If it is neither, or the number is below 1.
    """
    text = str(budget).replace("_", "").replace(",", "")
    if not text.lstrip("+-").isdigit():
        return Counter().count(read_config(str(budget), overrides))
    if int(text) < 1:
        raise UserError(f"--budget {budget}: no network is that small. Write a number of parameters, or name a YAML.")
    return int(text)


def match_budgets(
    points: Sequence[Point], parameters: int, configs: Mapping[str, Config], dimensions: Mapping[str, str]
) -> list[Point]:
    """The points with widths at which all students have about as many parameters.

    Args:
        points (sequence of Point): The points.
        parameters (int): The number asked for.
        configs (mapping): The checked configuration of each point, by name.
        dimensions (mapping): The key of each alias.

    Raises:
        UserError: If the grid has the width itself, or no width has so few or so many parameters.
    """
    if WIDTH in dimensions.values():
        raise UserError(f"--budget chooses {WIDTH}, so it cannot be a dimension of the grid. Remove one of the two.")
    counter = Counter()
    return [match_budget(point, parameters, configs[point.name], counter) for point in points]


def match_budget(point: Point, parameters: int, config: Config, counter: Counter | None = None) -> Point:
    """A point with the width at which its student has ``parameters`` parameters.

    Where no width has exactly as many, it is the next wider one, and with ``model.match_upper: false`` the next
    narrower, as in the host's ``match_baseline_cfg``.

    Args:
        point (Point): The point.
        parameters (int): The number asked for.
        config (Config): Its checked configuration.
        counter (Counter, optional): Keeps what it knows of data sets for further points.

    Raises:
        UserError: If no width has so few or so many parameters.
    """
    counter = counter or Counter()
    width = find_width(
        lambda wide: counter.count(config, wide), parameters, bool(config.cfg.model.match_upper), point.name
    )
    values = copy.deepcopy(dict(point.values))
    values["gnn"] = {**(values.get("gnn") or {}), "dim_inner": width}
    return replace(point, values=values)


def find_width(count: Callable[[int], int], parameters: int, upper: bool, name: str) -> int:
    """The width whose count is ``parameters``, or comes next above (``upper``) or below.

    Args:
        count (callable): The number of parameters at a width; it grows with the width.
        parameters (int): The number asked for.
        upper (bool): Which neighbour is taken.
        name (str): What the message calls the network.

    Raises:
        UserError: If there is no such width.
    """
    least = count(1)
    if least > parameters:
        raise UserError(
            f"--budget {parameters}: {name} has {least} parameters already at width 1. Write a larger budget, or choose a "
            "smaller network."
        )
    low, high = 1, 2
    while count(high) <= parameters:
        low, high = high, 2 * high
        if high > _WIDEST:
            raise UserError(
                f"--budget {parameters}: {name} has fewer parameters at every width up to {low}. Write a smaller budget; a "
                f"network that does not read {WIDTH} cannot be matched."
            )
    while high - low > 1:  # count(low) <= parameters < count(high)
        middle = (low + high) // 2
        if count(middle) <= parameters:
            low = middle
        else:
            high = middle
    return high if upper and count(low) < parameters else low
