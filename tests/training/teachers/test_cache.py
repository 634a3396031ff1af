"""``GKD_STORE``: what a teacher said is computed once for all runs, and changes no bit of any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gkd_plugin.commands.run import run
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Kernel
from gkd_plugin.space.knowledge.structure import StructureTerm
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.teachers.cache import VARIABLE
from tests import toy
from tests.running import Code, kept, refused, same, student, teach, weights

pytestmark = pytest.mark.usefixtures("work_folder")


LAYERS = {"kd_feature": {"weight": 1.0, "layer_map": "uniform"}, "kd_structure": {"weight": 1.0, "tap": "layer"}}


def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Widths of the networks that are really observed with layers from now on."""
    found: list[int] = []
    plain = ObservedModel.observe

    def watched(self: ObservedModel, sample: Any, taps: Any = (), split: str = "train") -> Observation:
        if tuple(taps):
            found.append(int(self.own.gnn.dim_inner))
        return plain(self, sample, taps, split)

    monkeypatch.setattr(ObservedModel, "observe", watched)
    return found


def test_the_store_changes_no_bit_and_saves_the_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path, gnn={"batchnorm": True})
    without = run(student(tmp_path, "without", **LAYERS), quiet=True)
    seen = forwards(monkeypatch)
    monkeypatch.setenv(VARIABLE, "kept")
    first = run(student(tmp_path, "first", **LAYERS), quiet=True)
    assert seen.count(16) == 1
    second = run(student(tmp_path, "second", **LAYERS), quiet=True)
    assert seen.count(16) == 1
    for report in (first, second):
        assert report.results[0].answers == without.results[0].answers
        assert same(weights(report.folder), weights(without.folder))
    (file,) = kept("logits")
    assert set(torch.load(file, weights_only=True)) == {"key", "content", "logits", "labels", "hidden", "graphs"}


@pytest.mark.parametrize("learner", ["edgeconv", "gcn"])
def test_graphs_that_move_are_kept_and_nothing_of_a_step_is(
    learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(name: str) -> Path:
        own = {"gkd_model": {"k": 2}} if learner == "edgeconv" else {}
        union = {"weight": 10.0, "tap": "layer", "domain": "union"}
        return student(tmp_path, name, kd_structure=union, model={"type": learner}, gnn={"layers_post_mp": 1}, **own)

    teach(tmp_path, model={"type": "edgeconv"}, gkd_model={"k": 4}, gnn={"layers_post_mp": 1})
    without = run(listen("without"), quiet=True)
    seen = forwards(monkeypatch)
    monkeypatch.setenv(VARIABLE, "kept")
    reports = [run(listen(name), quiet=True) for name in ("first", "second")]
    assert seen.count(16) == 1
    for report in reports:
        assert same(weights(report.folder), weights(without.folder))
    (file,) = kept("logits")
    graphs = torch.load(file, weights_only=True)["graphs"]
    assert len(graphs) == len(torch.load(file, weights_only=True)["hidden"]["layer"])
    assert all(edges.shape == (2, 48 * 5) for edges in graphs)
    assert kept("value") == [], "one file for each step"


@pytest.mark.parametrize("holding", ["logits", "value"])
@pytest.mark.parametrize("damage", ["torn", "empty", "another's", "a number", "code"])
def test_a_damaged_file_of_the_store_is_written_anew(
    damage: str, holding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(tmp_path)
    monkeypatch.setenv(VARIABLE, "kept")
    first = run(student(tmp_path, "first", **LAYERS), quiet=True)
    before = sorted(Path("kept").iterdir())
    (file,) = kept(holding)
    good = file.read_bytes()
    values = torch.load(file, weights_only=True)
    if damage == "torn":
        file.write_bytes(good[: len(good) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "another's":
        torch.save({**values, "key": "0" * 64}, file)
    elif damage == "a number":
        torch.save({**values, holding: values[holding] + 1}, file)
    else:
        torch.save({**values, holding: Code()}, file)
    second = run(student(tmp_path, "second", **LAYERS), quiet=True)
    assert same(weights(first.folder), weights(second.folder))
    again = torch.load(file, weights_only=True)
    assert torch.equal(again[holding], values[holding])
    assert sorted(Path("kept").iterdir()) == before and not Path("executed").exists()


def test_the_store_tells_weights_data_splits_and_taps_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "kept")
    teach(tmp_path, repeat=2)
    counts = []

    def taught(name: str, **groups: Any) -> None:
        run(student(tmp_path, name, **{**LAYERS, **groups}), quiet=True)
        counts.append(len(kept("logits")))

    taught("plain")
    taught("student", gnn={"dim_inner": 5, "layers_mp": 3})  # the student's matter is not the teacher's
    taught("seed", kd={"teacher_seed": 1})
    taught("taps", kd_feature={"weight": 1.0, "layer_map": "uniform", "tap": "stage"})
    taught("hidden", kd={"hide_edges": 0.5})  # the teacher sees all
    assert counts == [1, 1, 2, 3, 3]

    def moved() -> list[Any]:
        data = toy.community(0)
        data.test_mask = data.test_mask & (torch.arange(48) < 40)
        return [data]

    monkeypatch.setitem(toy.SETS, "nodes", moved)
    taught("split")
    assert counts[-1] == 4


def structures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many values each distribution of a teacher has that is really computed from now on."""
    found: list[int] = []
    plain = StructureTerm._compute

    def watched(self: StructureTerm, states: torch.Tensor, domain: Any) -> torch.Tensor:
        value = plain(self, states, domain)
        if not states.requires_grad:
            found.append(value.numel())
        return value

    monkeypatch.setattr(StructureTerm, "_compute", watched)
    return found


def test_edge_distributions_are_computed_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = {"dataset": {"format": "PyG", "name": "digits"}, "optim": {"max_epoch": 3}}
    teach(tmp_path, **digits)
    keys = {**digits, "kd_structure": {"weight": 10.0, "layer_map": "uniform", "kernel_scale": "median"}}
    computed = structures(monkeypatch)
    without = run(student(tmp_path, "without", **keys), quiet=True)
    assert len(computed) == 2  # the two layers of the teacher, for the whole run
    monkeypatch.setenv(VARIABLE, "kept")
    first = run(student(tmp_path, "first", **keys), quiet=True)
    assert len(computed) == 4 and sorted(computed[:2]) == sorted(
        torch.load(file, weights_only=True)["value"].numel() for file in kept("value")
    )
    second = run(student(tmp_path, "second", **keys), quiet=True)
    assert len(computed) == 4
    for report in (first, second):
        assert report.results[0].answers == without.results[0].answers
        assert same(weights(report.folder), weights(without.folder))


def test_the_store_tells_edge_distributions_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "kept")
    monkeypatch.setattr(axes.kernels, "_answers", dict(axes.kernels._answers))
    axes.kernels.add("others", Kernel(lambda x, y, scale: (x * y).sum(-1), "for tests", "-"), "test_others")
    teach(tmp_path, repeat=2)
    computed = structures(monkeypatch)

    def taught(name: str, kd: dict[str, Any] | None = None, feature: str | None = None, **structure: Any) -> int:
        """How many distributions a run computed."""
        keys = {"weight": 1.0, "tap": "layer", "kernel_scale": 7, **structure}
        groups = {"kd_structure": {key: value for key, value in keys.items() if value is not None}}
        if feature is not None:
            groups["kd_feature"] = {"weight": 1.0, "layer_map": "uniform", "tap": feature}
        before = len(computed)
        run(student(tmp_path, name, kd=kd or {}, **groups), quiet=True)
        return len(computed) - before

    assert taught("plain") == 1 and taught("again") == 0
    new: dict[str, dict[str, Any]] = {
        "kernel": {"kernel": "rbf"},
        "scale": {"kernel_scale": 8},
        "median": {"kernel_scale": "median"},
        "rows": {"normalize": "l2"},
        "raw": {"distribution": "none", "divergence": "mse"},
        "direction": {"softmax_over": "out_edges"},
        "loops": {"self_loops": True},
        "domain": {"domain": "train_edges"},
        "one tap of two": {"tap": "layer", "feature": "conv"},
        "the other tap of two": {"tap": "conv", "feature": "layer"},
        "hidden": {"kd": {"hide_edges": 0.5}},
        "seed": {"kd": {"teacher_seed": 1}},
    }
    assert {name: taught(name, **keys) for name, keys in new.items()} == dict.fromkeys(new, 1)
    assert {name: taught(f"{name}_again", **keys) for name, keys in new.items()} == dict.fromkeys(new, 0)
    assert taught("divergence", divergence="js") == taught("sum", reduction="sum") == 0
    files = len(kept("value"))
    always = {
        "draws": {"domain": "all_pairs", "samples": 9, "kernel": "cosine", "kernel_scale": None},
        "matrix": {"domain": "all_pairs", "kernel": "cosine", "kernel_scale": None},
        "others": {"kernel": "others", "kernel_scale": None},  # whose code may change under its name
    }
    for name, keys in always.items():
        assert taught(name, **keys) == taught(f"{name}_again", **keys) > 0
    assert len(kept("value")) == files


def test_a_store_that_is_no_folder_or_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    Path("file").write_text("")
    monkeypatch.setenv(VARIABLE, "file")
    assert "GKD_STORE: file is not a folder" in refused(student(tmp_path))
    monkeypatch.setenv(VARIABLE, "file/below")
    with pytest.warns(UserWarning, match="GKD_STORE: file/below cannot be written"):
        run(student(tmp_path), quiet=True)
