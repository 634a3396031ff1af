"""Settings that a fork adds to ``train`` and ``optim``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.graphgym import register

from gkd_plugin.commands.run import run
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import ConfigError
from tests import toy


def add_keys(cfg: Any) -> None:
    """As GraphGPS adds them."""
    cfg.optim.clip_grad_norm, cfg.optim.clip_grad_norm_value, cfg.optim.batch_accumulation = False, 1.0, 1
    cfg.optim.num_warmup_epochs, cfg.train.ckpt_best = 50, False


@pytest.fixture(autouse=True)
def _fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(register.config_dict, "fork", add_keys)


def fork(**groups: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "train": {"eval_period": 1, "ckpt_best": False},
        "optim": {
            "optimizer": "adam",
            "scheduler": "none",
            "max_epoch": 4,
            "clip_grad_norm": False,
            "clip_grad_norm_value": 1.0,
            "batch_accumulation": 1,
            "num_warmup_epochs": 50,
        },
    }
    for key, content in groups.items():
        base[key] = {**base.get(key, {}), **content}
    return base


@pytest.mark.parametrize(
    ("groups", "expected", "origin"),
    [
        ({}, None, "default"),
        ({"optim": {"clip_grad_norm_value": 0.5}}, None, "default"),
        ({"optim": {"clip_grad_norm": True}}, 1.0, "optim.clip_grad_norm"),
        ({"optim": {"clip_grad_norm": True, "clip_grad_norm_value": 0.5}}, 0.5, "optim.clip_grad_norm"),
        ({"optim": {"clip_grad_norm": True}, "kd": {"clip_grad_norm": 3}}, 3.0, "you"),
        ({"optim": {"clip_grad_norm": True}, "kd": {"clip_grad_norm": "none"}}, None, "you"),
    ],
)
def test_clipping_is_honoured(groups: Any, expected: float | None, origin: str) -> None:
    plan = resolve(fork(**groups))
    assert plan["clip_grad_norm"] == expected and plan.warnings == ()
    assert origin in plan.origins["kd.clip_grad_norm"]


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ({"batch_accumulation": 4}, r"optim.batch_accumulation: 4. Allowed: 1.*train.batch_size"),
        ({"batch_accumulation": None}, r"optim.batch_accumulation: None. Allowed: 1"),
        (
            {"clip_grad_norm": True, "clip_grad_norm_value": 0},
            r"optim.clip_grad_norm_value: 0. Allowed: a number above 0",
        ),
        ({"clip_grad_norm": True, "clip_grad_norm_value": "1"}, r"optim.clip_grad_norm_value: '1'"),
        ({"clip_grad_norm": True, "clip_grad_norm_value": float("nan")}, r"optim.clip_grad_norm_value: nan"),
    ],
)
def test_what_cannot_be_honoured_is_refused(optim: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(fork(optim=optim))


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ({}, []),
        ({"train": {"ckpt_best": True}}, ["train.ckpt_best True (default False)"]),
        ({"optim": {"num_warmup_epochs": 5}}, ["optim.num_warmup_epochs 5 (default 50)"]),
        ({"optim": {"num_warmup_epochs": 5, "scheduler": "warm"}}, []),  # the scheduler takes it
        ({"optim": {"novel": 1}}, ["optim.novel 1 (default None)"]),
        ({"optim": {"clip_grad_norm": 1.0}}, ["optim.clip_grad_norm 1.0 (default False)"]),  # of another meaning
        ({"train": {"ckpt_period": 3, "auto_resume": True}, "optim": {"steps": [1], "momentum": 0.5}}, []),
    ],
)
def test_other_keys_are_warned_of(groups: Any, named: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(register.scheduler_dict, "warm", lambda optimizer, num_warmup_epochs: None)
    found = resolve(fork(**groups)).warnings
    assert [warning.split(":")[0] for warning in found] == named


@pytest.mark.usefixtures("toy_data")
def test_a_clipped_run_is_that_of_our_own_key(tmp_path: Path) -> None:
    tiny = {"clip_grad_norm": True, "clip_grad_norm_value": 1e-6}
    cases = {"off": ({}, {}), "forks": (tiny, {}), "ours": ({}, {"clip_grad_norm": 1e-6})}
    losses = {}
    for name, (optim, kd) in cases.items():
        keys = {"optim": {"max_epoch": 3, "optimizer": "sgd", "base_lr": 0.5, **optim}, "gnn": {"dropout": 0.0}}
        folder = run(toy.values(tmp_path, **keys, kd=kd), name=name, quiet=True).folder
        rows = (folder / "0" / "train" / "stats.json").read_text().splitlines()
        losses[name] = [json.loads(row)["loss"] for row in rows]
    assert losses["forks"] == losses["ours"] != losses["off"]
