from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils import comp_budget

from gkd_plugin import host
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.study import budget as module
from gkd_plugin.study.budget import Counter, find_budget, find_width, match_budget, match_budgets
from gkd_plugin.study.points import Point
from tests import toy


def count_by_hand(width, features=6, classes=3):
    """Two graph convolutions and a linear read-out, each with its bias."""
    return (features + 1) * width + (width + 1) * width + (width + 1) * classes


def match(parameters, **groups):
    values = toy.values(**groups)
    return match_budget(Point("point", values), parameters, read_config(values)).values["gnn"]["dim_inner"]


@pytest.fixture(autouse=True)
def _data(toy_data):
    pass


# --------------------------------------------------------------------------------------------------------------- counts
@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"kd": {"preset": "mutual", "students": 3}},
        {"kd": {"preset": "alignahead_pp", "students": 2}},
        {"kd_feature": {"weight": 1, "projector": "linear", "projector_side": "both"}, "kd": {"students": 2}},
    ],
    ids=["supervised", "three", "heads", "projections"],
)
def test_one_student_counts_without_heads_and_projections(groups):
    assert Counter().count(read_config(toy.values(**groups))) == count_by_hand(8)


def test_it_is_the_number_that_a_run_reports(work_folder):
    config = toy.config(work_folder, kd={"preset": "alignahead_pp", "students": 2}, optim={"max_epoch": 1})
    (result,) = run(config, quiet=True).results
    assert set(result.parameters) == {Counter().count(read_config(config))}


def test_counting_leaves_no_trace_and_loads_each_data_set_once(monkeypatch):
    loads = []
    real = module.load
    monkeypatch.setattr(module, "load", lambda own: loads.append(own) or real(own))
    config, before = read_config(toy.values()), host.snapshot()
    own, state = copy.deepcopy(config.cfg), torch.get_rng_state()
    counter = Counter()
    assert counter.count(config, 16) == count_by_hand(16)
    assert counter.count(config) == count_by_hand(8)
    assert len(loads) == 1
    assert config.cfg == own
    assert host.snapshot() == before
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------------------------------------------------------------- widths
@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("parameters", [30, 31, count_by_hand(8), count_by_hand(8) + 1, 500, 1000, 4321])
def test_widths_are_those_of_the_hosts_search(parameters, upper, monkeypatch):
    """`match_computation` over a student with the data set's own features and classes."""
    config = read_config(toy.values(model={"match_upper": upper}))
    own = config.cfg.clone()
    own.share.dim_in, own.share.dim_out = 6, 3
    monkeypatch.setattr(comp_budget, "get_stats", lambda: comp_budget.params_count(create_model(to_device=False)))
    with host.scoped(own):
        comp_budget.match_computation(parameters)
        theirs = cfg.gnn.dim_inner
    assert match(parameters, model={"match_upper": upper}) == theirs


@pytest.mark.parametrize("upper", [True, False])
def test_the_width_is_the_nearest_on_its_side(upper):
    for parameters in range(count_by_hand(1), 2000, 7):
        width = find_width(count_by_hand, parameters, upper, "it")
        if upper:
            assert count_by_hand(width) >= parameters and (width == 1 or count_by_hand(width - 1) < parameters)
        else:
            assert count_by_hand(width) <= parameters < count_by_hand(width + 1)


def test_more_layers_get_narrower():
    widths = [match(2000, gnn={"layers_mp": layers}) for layers in (1, 2, 4, 8)]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 4


def test_only_the_width_changes():
    values = toy.values(kd={"preset": "mutual", "students": 2})
    before = copy.deepcopy(values)
    point = Point("point", values, {"a": 1}, control="other")
    found = match_budget(point, 1000, read_config(values))
    assert values == before
    assert found.values == {**values, "gnn": {**values["gnn"], "dim_inner": found.values["gnn"]["dim_inner"]}}
    assert (found.name, found.choices, found.control) == ("point", {"a": 1}, "other")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [(5, "point has 15 parameters already at width 1"), (10**15, "has fewer parameters at every width")],
)
def test_budgets_that_no_width_has(parameters, message, monkeypatch):
    monkeypatch.setattr(module, "_WIDEST", 64)
    with pytest.raises(UserError, match=message):
        match(parameters)


def test_the_width_cannot_be_a_dimension_too():
    values = toy.values()
    points, configs = [Point("a", values)], {"a": read_config(values)}
    with pytest.raises(UserError, match="cannot be a dimension of the grid"):
        match_budgets(points, 1000, configs, {"width": "gnn.dim_inner"})
    (found,) = match_budgets(points, 1000, configs, {"act": "gnn.act"})
    assert found.values["gnn"]["dim_inner"] == match(1000)


# -------------------------------------------------------------------------------------------------------------- --budget
def test_a_budget_is_a_number_or_a_yaml(work_folder):
    assert find_budget(1000) == find_budget("1000") == find_budget("1_000") == find_budget("1,000") == 1000
    assert find_budget(str(toy.config(work_folder, gnn={"dim_inner": 12}))) == count_by_hand(12)
    for wrong in ("0", "-5", 0):
        with pytest.raises(UserError, match="no network is that small"):
            find_budget(wrong)
    with pytest.raises(UserError, match="does not exist"):
        find_budget("nothing.yaml")
