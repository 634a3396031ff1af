"""What is kept changes no number, goes with its data set, and never carries what a run did into the next one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.graphgym import register
from torch_geometric.graphgym.loader import create_loader, load_dataset

import gkd_plugin  # noqa: F401
from gkd_plugin.commands.run import run
from gkd_plugin.data import keep
from gkd_plugin.data.keep import MOST, derive, keep_data
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel
from tests import toy
from tests.running import outcome, result


def ask(name: str = "digits", **values: Any) -> Any:
    cfg.dataset.format, cfg.dataset.name, cfg.seed = "PyG", name, 1
    for key, value in values.items():
        group, _, rest = key.rpartition("__")
        (cfg[group] if group else cfg)[rest] = value
    return load_dataset()


@pytest.fixture
def loads(monkeypatch):
    """The names that are really loaded by our loaders."""
    names: list[str] = []
    for key in ("gkd", "gkd_digits"):
        plain = register.loader_dict[key]

        def counted(format: str, name: str, folder: str, plain: Any = plain) -> Any:
            found = plain(format, name, folder)
            names.extend([name] if found is not None else [])
            return found

        counted.__module__ = "gkd_plugin.data"
        monkeypatch.setitem(register.loader_dict, key, counted)
    return names


def test_a_data_set_is_loaded_once_within_and_anew_outside(loads):
    first = ask()
    with keep_data():
        second, third = ask(), ask()
        with keep_data():
            ask()
        ask()
    ask()
    assert loads == ["digits"] * 3
    assert len({id(found) for found in (first, second, third)}) == 3
    assert second[0].x.data_ptr() == third[0].x.data_ptr() != first[0].x.data_ptr()
    assert second[0].to_dict().keys() == first[0].to_dict().keys()
    assert all(torch.equal(second[0][key], first[0][key]) for key in first[0].to_dict())


@pytest.mark.parametrize(
    ("other", "times"),
    [
        ({"seed": 2}, 1),
        ({"gnn__dim_inner": 7}, 1),
        ({"dataset__transductive": False}, 2),
        ({"dataset__format": "gkd"}, 2),
        ({"name": "digits_k3"}, 2),
    ],
)
def test_every_key_that_decides_the_data_counts(other, times, loads):
    with keep_data():
        ask()
        cfg.dataset.transductive = True
        for key, value in other.items():
            if key not in ("name", "dataset__format"):
                group, _, rest = key.rpartition("__")
                (cfg[group] if group else cfg)[rest] = value
        cfg.dataset.name = other.get("name", "digits")
        cfg.dataset.format = other.get("dataset__format", "PyG")
        load_dataset()
    assert len(loads) == times


def test_drawn_splits_go_by_seed(loads):
    def masks(seed: int) -> torch.Tensor:
        cfg.dataset.format, cfg.dataset.name, cfg.seed, cfg.splits.kind = "gkd", "digits", seed, "random"
        return load_dataset()[0].train_mask

    plain = [masks(seed) for seed in (1, 2)]
    with keep_data():
        kept = [masks(seed) for seed in (1, 2, 1, 2)]
    assert len(loads) == 4
    assert all(torch.equal(a, b) for a, b in zip(kept, plain * 2, strict=True))


def test_only_the_last_ones_are_kept(loads):
    with keep_data():
        for name in ("digits", "digits_k3", "digits", "digits_k4", "digits", "digits_k3"):
            ask(name)
        assert keep._keeper is not None
        assert len(keep._keeper.kept) == MOST
    assert loads == ["digits", "digits_k3", "digits_k4", "digits_k3"]


def test_what_is_done_to_a_data_set_stays_in_its_run(loads):
    with keep_data():
        first = ask()
        first._data.y = first._data.y * 0
        first._data.more = torch.ones(3)
        del first._data.edge_index
        first.transform = lambda data: 1 / 0
        second = ask()
        assert second[0].y.unique().numel() == 10
        assert "more" not in second[0] and "edge_index" in second[0]
        assert len(loads) == 1
        second._data.x.add_(1)
        assert ask()[0].x.max() == 1
        assert len(loads) == 2


def test_loaders_of_the_users_are_asked_every_time(monkeypatch):
    asked = []

    def own(format: str, name: str, folder: str) -> Any:
        asked.append(name)
        return toy.load("toy", "nodes", "") if cfg.gnn.dim_inner == 9 else None

    monkeypatch.setitem(register.loader_dict, "own", own)
    monkeypatch.setattr(keep, "load_dataset", lambda: toy.load("toy", "many", ""))  # the host's own answer
    cfg.dataset.format, cfg.dataset.name, lengths = "PyG", "Cora", []
    with keep_data():
        for width in (8, 8, 9, 9, 8):
            cfg.gnn.dim_inner = width
            lengths.append(len(load_dataset()))
    assert lengths == [5, 5, 1, 1, 5]
    assert len(asked) == 5


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])  # noqa: NPY002
def test_data_that_are_drawn_are_drawn_in_every_run(draw, monkeypatch):
    loaded = []

    def drawn(format: str, name: str, folder: str) -> Any:
        loaded.append(draw())
        return toy.load("toy", "nodes", "")

    drawn.__module__ = "gkd_plugin.data"
    monkeypatch.setitem(register.loader_dict, "gkd", drawn)
    with keep_data():
        ask(), ask()
    assert len(loaded) == 2


def test_derived_values_belong_to_the_whole_data_set_as_it_was_loaded():
    made = []

    def make() -> int:
        made.append(1)
        return len(made)

    with keep_data():
        first = ask()
        assert [derive(first, "a", make), derive(ask(), "a", make), derive(first, "b", make)] == [1, 1, 2]
        assert derive(first[:1], "a", make) == 3  # a part, which PyG copies with all attributes
        first._data.y = first._data.y.flip(0)
        assert derive(first, "a", make) == 4
        second = ask()
        assert derive(second, "a", make) == 1
        second._data.x.mul_(2)
        assert derive(second, "a", make) == 5
    assert derive(ask(), "a", make) == 6
    assert derive(None, "a", make) == 7


# -- whole runs ---------------------------------------------------------------------------------------------------------

DIGITS = {"dataset": {"format": "PyG", "name": "digits"}, "train": {"enable_ckpt": False}}
STUDIES = {
    "supervised": [{}, {"gnn": {"dim_inner": 4}}, {"gnn": {"layer_type": "sageconv"}}],
    "cohort": [{"kd": {"preset": "alignahead_pp", "students": 2}}, {"kd": {"hide_edges": 0.5}}, {}],
    "drawn": [{"dataset": {"format": "gkd"}, "splits": {"kind": "random"}}] * 2,
    "edge": [{"dataset": {"format": "toy", "name": "links", "task": "link_pred"}, "gnn": {"head": "edge"}}] * 2,
}


def study(folder: Path, name: str) -> list[dict[str, Any]]:
    found = []
    for number, groups in enumerate(STUDIES[name]):
        path = toy.config(folder, f"c{number}", **toy.merge(toy.merge(DIGITS, {"optim": {"max_epoch": 2}}), groups))
        done = run(path, repeat=2, quiet=True).folder
        found += [{**outcome(done / str(seed)), "depends": result(done, seed)["depends"]} for seed in (0, 1)]
    return found


@pytest.mark.usefixtures("toy_data")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_the_same_numbers_to_the_last_bit(name, tmp_path):
    (tmp_path / "plain").mkdir(), (tmp_path / "kept").mkdir()
    plain = study(tmp_path / "plain", name)
    with keep_data():
        assert study(tmp_path / "kept", name) == plain


def test_a_run_that_writes_into_its_batch_does_not_reach_the_next(tmp_path, monkeypatch):
    plain = study(tmp_path, "supervised")[0]
    observe = ObservedModel.observe

    def writing(self: ObservedModel, sample: Any, *args: Any) -> Any:
        sample.batch.x.add_(1)
        sample.batch.y = sample.batch.y.flip(0)
        return observe(self, sample, *args)

    with keep_data():
        with monkeypatch.context() as patch:
            patch.setattr(ObservedModel, "observe", writing)
            (tmp_path / "first").mkdir()
            assert study(tmp_path / "first", "supervised")[0] != plain
        (tmp_path / "second").mkdir()
        assert study(tmp_path / "second", "supervised")[0] == plain


def test_loaders_are_made_for_each_run():
    cfg.dataset.task, cfg.train.batch_size = "node", 1
    with keep_data():
        ask()
        first, second = create_loader(), create_loader()
    assert first[0] is not second[0] and first[0].dataset is first[2].dataset is not second[0].dataset
