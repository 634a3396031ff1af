"""Stacked runs against the same runs one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.training import stack as stack_module
from gkd_plugin.training.step import Updates
from tests import toy

pytestmark = pytest.mark.usefixtures("work_folder")
SEEDS = 3
NODE = 0.07  # one of 16, whose two best classes tie on some processors
COUNTED = ("accuracy", "precision", "recall", "f1", "auc", "agreement")


def train(name: str, stack: bool, repeat: int = SEEDS, **groups: Any) -> RunReport:
    values = toy.values(Path("results"), **toy.merge({"gnn": {"dropout": 0.0}, "optim": {"max_epoch": 6}}, groups))
    values["kd"] = {**values.get("kd", {}), "stack": stack}
    return run(values, repeat=repeat, name=name, quiet=True)


def read(report: RunReport, split: str = "val") -> list[dict[str, Any]]:
    paths = [report.folder / str(number) / split / "stats.json" for number in range(len(report.results))]
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def compare(alone: RunReport, together: RunReport) -> None:
    for split in ("train", "val", "test"):
        for ours, theirs in zip(read(together, split), read(alone, split), strict=True):
            assert ours.keys() == theirs.keys()
            for key in set(ours) - {"time_iter", "time_used", "eta", "eta_hours", "time_epoch"}:
                slack = NODE if key.rsplit("_", 1)[-1] in COUNTED else 2e-3
                assert ours[key] == pytest.approx(theirs[key], rel=2e-3, abs=slack), (split, key)
    for ours, theirs in zip(together.results, alone.results, strict=True):
        for name, answer in theirs.answers.items():
            assert ours.answers[name].test == pytest.approx(answer.test, abs=NODE)


CASES: dict[str, dict[str, Any]] = {
    "supervised": {},
    "patience": {"kd": {"patience": 2}, "optim": {"max_epoch": 12}},
    "alignahead": {"kd": {"preset": "alignahead", "students": 2}},
    "alignahead_pp, joint": {"kd": {"preset": "alignahead_pp", "students": 3, "update": "joint"}},
    "mutual, step by step": {"kd": {"preset": "mutual", "students": 2, "update": "step_alternate"}},
    "moving average": {"kd": {"students": 1, "predict": "ema"}, "kd_response": {"weight": 1, "source": "ema"}},
    "peers in training mode": {"kd": {"preset": "mutual", "students": 2, "peer_mode": "train"}},
    "statistics": {"gnn": {"batchnorm": True}, "kd": {"clip_grad_norm": 0.5}},
    "attention": {"kd": {"students": 2}, "kd_feature": {"weight": 1, "layer_map": "attention"}},
}


@pytest.mark.parametrize("case", CASES)
def test_seeds_of_a_stack_are_what_they_are_alone(case: str) -> None:
    alone, together = (train(f"run{stack}", stack, **CASES[case]) for stack in (False, True))
    compare(alone, together)
    assert {result.stacked for result in alone.results} == {1}
    least = SEEDS * together.plan.students if "joint" in case else SEEDS
    assert all(result.stacked >= least for result in together.results)
    assert not any("stack" in warning for result in together.results for warning in result.warnings)
    written = json.loads((together.folder / "0" / "result.json").read_text())
    assert written["stacked"] > 1 and "stacked" not in json.loads((alone.folder / "0" / "result.json").read_text())


@pytest.mark.parametrize("preset", ["supervised", "alignahead"])
def test_like_students_of_one_run_are_stacked_too(preset: str) -> None:
    groups = {"kd": {"preset": preset, "students": 4, "update": "joint"}}
    alone, together = (train(f"run{stack}", stack, 1, **groups) for stack in (False, True))
    compare(alone, together)
    assert together.results[0].stacked == 4


def test_one_forward_and_one_backward_pass_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    plain = stack_module.Stacker.observe

    def observe(self: Any, requests: Any, grads: Any) -> Any:
        passes.append(len(requests))
        return plain(self, requests, grads)

    monkeypatch.setattr(stack_module.Stacker, "observe", observe)
    alone: list[None] = []
    call = ObservedModel.call
    monkeypatch.setattr(ObservedModel, "call", lambda *args: (alone.append(None), call(*args))[1])
    train("counted", True, 4, optim={"max_epoch": 5})
    # a training and an evaluation pass each epoch, and the test; whoever is compared before the first adds 4 + 1
    assert passes == [4] * 11 and len(alone) == 11 + 5


def test_gradients_of_terms_are_recorded_as_they_are_alone() -> None:
    groups = {"kd": {"preset": "alignahead_pp", "students": 2, "update": "joint"}, "optim": {"max_epoch": 22}}
    found = []
    for stack in (False, True):
        report = train(f"run{stack}", stack, 2, **groups)
        files = [report.folder / str(number) / "diagnostics.json" for number in range(2)]
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        found.append(sorted(rows, key=lambda row: (row["epoch"], row["student"], row["task"])))
    places = [(row["epoch"], row["student"]) for row in found[0]]
    assert places == [(epoch, student) for epoch in (0, 20) for student in (1, 2) for _ in range(2)]
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=1e-3)


def test_a_seed_that_fails_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Updates.epoch

    def epoch(self: Updates, feed: Any, number: int) -> Any:
        if self.streams.seed == 2 and number == 3:
            raise RuntimeError("out of memory, say")
        return plain(self, feed, number)

    monkeypatch.setattr(Updates, "epoch", epoch)
    report = train("failing", True)
    assert [result.seed for result in report.results] == [1, 3] and "out of memory, say" in report.failures[2]
    monkeypatch.undo()
    compare_two = train("whole", False)
    for result in report.results:
        assert result.answers["first"].test == pytest.approx(
            compare_two.results[result.seed - 1].answers["first"].test, abs=0.07
        )


def test_a_mistake_ends_all_with_one_message() -> None:
    with pytest.raises(UserError, match="metric_best"):
        train("mistaken", True, metric_best="f1")


def test_an_interrupted_stack_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("whole", True, train={"enable_ckpt": True, "ckpt_period": 2})

    def watch(epoch: int, epochs: int, score: float) -> None:
        if epoch == 4:
            raise KeyboardInterrupt

    values = toy.values(
        Path("results"),
        gnn={"dropout": 0.0},
        optim={"max_epoch": 6},
        train={"enable_ckpt": True, "ckpt_period": 2},
        kd={"stack": True},
    )
    with pytest.raises(KeyboardInterrupt):
        run(values, repeat=SEEDS, name="cut", quiet=True, watch=watch)
    assert not list(Path("results/cut").glob("*/result.json"))
    report = run(values, repeat=SEEDS, name="cut", quiet=True)
    compare(whole, report)


def test_networks_that_are_not_alike_run_one_at_a_time_and_it_is_said() -> None:
    groups = {"gnn": {"dropout": 0.0}, "optim": {"max_epoch": 2}}
    Path("other.yaml").write_text("gnn: {dim_inner: 5}\n")
    values = toy.values(Path("results"), **groups, kd={"stack": True, "cohort": ["other.yaml"], "preset": "mutual"})
    (result,) = run(values, repeat=1, name="unlike", quiet=True).results
    assert result.stacked == 1
    assert any("kd.stack: its networks ran one at a time: no two" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    "groups",
    [
        {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
        {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
    ],
    ids=["links", "many"],
)
def test_other_tasks_and_batches_are_trained_one_at_a_time(groups: dict[str, Any]) -> None:
    alone, together = (train(f"run{stack}", stack, 2, **groups) for stack in (False, True))
    assert read(alone)[-1]["loss"] == read(together)[-1]["loss"]
    assert all(result.stacked == 1 and result.warnings for result in together.results)


def test_with_dropout_seeds_differ_and_come_again() -> None:
    first, again = (train(name, True, gnn={"dropout": 0.5}) for name in ("first", "again"))
    rows = [read(report, "train") for report in (first, again)]
    losses = [[row["loss"] for row in each] for each in rows]
    assert losses[0] == losses[1] and len(set(losses[0])) == len(losses[0])
