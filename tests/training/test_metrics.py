"""Metrics and rows against the host's own ``Logger``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.graphgym import register
from torch_geometric.graphgym.logger import Logger

from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.training.metrics import SplitLog, choose_metric, cut_rows, measure

KINDS = ("classification_multi", "classification_binary", "regression")


def data(kind: str, size: int, seed: int, column: bool = False) -> tuple[Tensor, Tensor]:
    """Labels and scores with many ties, which is where two ways to take a maximum differ."""
    torch.manual_seed(seed)
    if kind == "classification_multi":
        return torch.randint(0, 4, (size,)), torch.randint(0, 3, (size, 4)).float()
    if kind == "classification_binary":
        return torch.randint(0, 2, (size,)), torch.randint(0, 5, (size,)) / 4
    true = torch.randn(size)
    return (true.unsqueeze(-1) if column else true), torch.randn(size)


def hosts(kind: str, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    logger = Logger.__new__(Logger)
    logger._true, logger._pred = [list(part) for part in zip(*batches, strict=True)]
    values: dict[str, float] = getattr(logger, kind)()
    return values


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, on classes that are never predicted
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    column=st.booleans(),
)
def test_numbers_are_the_hosts(kind: str, sizes: list[int], seed: int, column: bool) -> None:
    batches = [data(kind, size, seed + number, column) for number, size in enumerate(sizes)]
    found = measure([true for true, _ in batches], [score for _, score in batches], kind)
    expected = hosts(kind, batches)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value == value:
            assert found[name] == pytest.approx(value, abs=1.01 * 10**-cfg.round), name
        assert type(found[name]) is float, "the host writes JSON"


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_hosts(kind: str, tmp_path: Path) -> None:
    cfg.share.dim_out, cfg.share.num_splits, cfg.params = 4, 3, 10
    rows = []
    for logger_class in (Logger, SplitLog):
        cfg.run_dir = str(tmp_path / logger_class.__name__)
        log = logger_class("train", kind)
        for epoch in range(2):
            for batch, size in enumerate((5, 3)):
                true, score = data(kind, size, 10 * epoch + batch)
                log.update_stats(
                    true=true, pred=score, loss=0.5 + batch, lr=0.01, time_used=0.125, params=10, s2_kd_structure=0.25
                )
            log.write_epoch(epoch)
        written = (Path(cfg.run_dir) / "train" / "stats.json").read_text()
        rows.append([json.loads(line) for line in written.splitlines()])
    assert len(rows[0]) == 2 and rows[0] == rows[1]
    assert rows[1][0]["loss"] == pytest.approx((5 * 0.5 + 3 * 1.5) / 8)


def test_custom_metrics_replace_the_hosts_and_unknown_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def third(true: list[Tensor], pred: list[Tensor], kind: str) -> float:
        return float(len(true)) / 3

    monkeypatch.setitem(register.metric_dict, "third", third)
    cfg.custom_metrics = ["third"]
    batches = [data("regression", 4, seed) for seed in range(2)]
    assert measure([t for t, _ in batches], [p for _, p in batches], "regression") == {"third": pytest.approx(2 / 3)}
    cfg.custom_metrics = ["thrid"]
    with pytest.raises(UserError, match=r"custom_metrics: 'thrid'.*Did you mean 'third'"):
        measure([batches[0][0]], [batches[0][1]], "regression")


def test_a_task_without_metric_asks_for_one() -> None:
    with pytest.raises(UserError, match=r"classification_multilabel.*custom_metrics.*f1_micro"):
        measure([torch.ones(2, 3)], [torch.ones(2, 3)], "classification_multilabel")


@pytest.mark.parametrize(
    ("best", "agg", "names", "expected"),
    [
        ("auto", "argmax", ["accuracy", "auc"], ("auc", True)),
        ("auto", "argmax", ["accuracy"], ("accuracy", True)),
        ("auto", "argmax", ["mae", "mse", "rmse"], ("mae", False)),
        ("auto", "argmin", ["mae", "mse", "rmse"], ("mae", False)),
        ("auto", "argmax", ["f1_micro"], ("f1_micro", True)),
        ("auto", "argmax", ["err"], ("err", True)),
        ("auto", "argmin", ["err"], ("err", False)),
        ("err", "argmin", ["err"], ("err", False)),
        ("rmse", "argmin", ["mae", "mse", "rmse"], ("rmse", False)),
        ("accuracy", "argmax", ["accuracy", "auc"], ("accuracy", True)),
    ],
)
def test_the_metric_that_selects(best: str, agg: str, names: list[str], expected: tuple[str, bool]) -> None:
    cfg.metric_best, cfg.metric_agg = best, agg
    assert choose_metric(names) == expected


def test_an_unmeasured_metric_is_refused() -> None:
    cfg.metric_best = "acuracy"
    with pytest.raises(UserError, match=r"metric_best: 'acuracy'.*Did you mean 'accuracy'.*auto"):
        choose_metric(["accuracy"])


def test_cutting_rows_drops_later_epochs_and_a_torn_end(tmp_path: Path) -> None:
    log: Any = type("Log", (), {"out_dir": str(tmp_path)})
    cut_rows(log, 3)  # no file yet
    path = tmp_path / "stats.json"
    whole = "".join(json.dumps({"epoch": epoch, "loss": math.pi}) + "\n" for epoch in range(5))
    path.write_text(whole + '{"epoch": 5, "lo')
    cut_rows(log, 9)
    assert path.read_text() == whole
    cut_rows(log, 3)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1, 2]
    cut_rows(log, 0)
    assert path.read_text() == ""


def test_an_error_is_not_maximised() -> None:
    cfg.metric_best = "rmse"  # metric_agg is the host's default, argmax
    with pytest.raises(UserError, match=r"metric_agg.*largest rmse.*argmin"):
        choose_metric(["mae", "mse", "rmse"])


@pytest.mark.parametrize("name", ["accuracy", "auc", "f1_micro"])
def test_a_share_is_not_minimised(name: str) -> None:
    cfg.metric_best, cfg.metric_agg = name, "argmin"
    with pytest.raises(
        UserError, match=rf"metric_agg: argmin selects the epoch with the smallest {name}. Write argmax"
    ):
        choose_metric(["accuracy", "auc", "f1_micro"])


@pytest.mark.parametrize("names", [["accuracy"], ["accuracy", "auc"], ["err", "accuracy"]])
def test_the_worst_epoch_is_not_selected_by_accuracy(names: list[str]) -> None:
    cfg.metric_agg = "argmin"  # metric_best is the host's default, auto
    with pytest.raises(UserError, match=r"metric_agg: argmin.*smallest (accuracy|auc).*argmax.*metric_best"):
        choose_metric(names)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_item_nothing_is_measured(kind: str) -> None:
    cfg.share.dim_out = 4
    true, score = data(kind, 3, 0)
    found = measure([true[:0]], [score[:0]], kind)
    assert found.keys() == measure([true], [score], kind).keys()
    assert all(map(math.isnan, found.values()))
    cfg.custom_metrics = ["f1_micro"]
    assert math.isnan(measure([true[:0]], [score[:0]], kind)["f1_micro"])
