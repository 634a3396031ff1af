"""What a tracker is told of a run, and that a run is the same whatever becomes of its tracker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import gkd_plugin
from gkd_plugin.commands.run import run
from gkd_plugin.space.tracker import TrackedRun, Tracker
from tests import toy
from tests.running import Stop, outcome, rows, stop_in

FORMS: dict[str, Any] = {"gnn": {"dropout": 0.5}, "optim": {"max_epoch": 4}, "train": {"ckpt_period": 1}}
KD: dict[str, Any] = {"kd_response": {"weight": 1.0, "source": "peers"}}


class Notes(Tracker):
    """Keeps what it is told, and draws random numbers as it likes."""

    summary, reference = "a list", "the tests"
    told: list[tuple[str, Any]] = []
    fail_in = ""

    def _note(self, what: str, value: Any) -> None:
        random.seed(0), torch.manual_seed(0), np.random.normal()  # noqa: NPY002, what others do
        self.told.append((what, value))
        if what == self.fail_in:
            raise SystemExit("the server\nis gone")

    def begin(self, run: TrackedRun) -> None:
        self._note("begin", run)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self._note("epoch", (epoch, dict(values)))

    def end(self, values: Mapping[str, float] | None) -> None:
        self._note("end", values)


@pytest.fixture(autouse=True)
def notes(work_folder: Path) -> Iterator[type[Notes]]:
    class Plugin:
        @gkd_plugin.hookimpl
        def gkd_register_trackers(self, register: Any) -> None:
            register("notes", Notes)

    label = gkd_plugin.register_plugin(Plugin(), "notes")
    Notes.told, Notes.fail_in = [], ""
    yield Notes
    gkd_plugin.unregister_plugin(label)


def train(name: str, tracker: str | None = "notes", **groups: Any) -> Any:
    kd = {"students": 2, **({"tracker": tracker} if tracker else {}), **groups.pop("kd", {})}
    values = toy.values(Path("results"), **{**FORMS, **KD, **groups}, kd=kd)
    Path(f"{name}.yaml").write_text(yaml.safe_dump(values))
    return run(f"{name}.yaml", quiet=True)


def test_it_is_told_what_the_rows_say_and_the_result() -> None:
    (result,) = train("tracked").results
    (_, began), *epochs, (_, end) = Notes.told
    assert (began.name, began.group, began.seed, began.again) == ("tracked/0", "results", 1, False)
    assert began.config["kd.tracker"] == "notes" and began.config["optim.max_epoch"] == 4
    assert began.folder == Path("results/tracked/0")
    written = rows(began.folder, "val")
    assert [what for what, _ in Notes.told] == ["begin", *["epoch"] * 4, "end"]
    for (_, (epoch, values)), row in zip(epochs, written, strict=True):
        assert epoch == row["epoch"]
        for name in ("accuracy", "loss", "mean_accuracy", "s1_loss", "s2_loss"):
            assert values[f"val/{name}"] == pytest.approx(row[name], abs=1e-4)
        assert values["train/loss"] > 0
    assert end["mean/test"] == result.answers["mean"].test and end["epochs"] == 4


@pytest.mark.parametrize("fail_in", ["", "begin", "epoch", "end"])
def test_no_number_and_no_file_changes(fail_in: str, caplog: pytest.LogCaptureFixture) -> None:
    plain = train("plain", tracker=None)
    Notes.fail_in = fail_in
    told = train("told")
    assert outcome(told.folder / "0") == outcome(plain.folder / "0")
    warnings = [*told.results[0].warnings, *(record.getMessage() for record in caplog.records)]
    said = [text for text in warnings if "kd.tracker" in text]
    expected = "kd.tracker notes: SystemExit: the server. The run goes on without it."
    assert [text.removeprefix("gkd_plugin: ") for text in said] == ([expected] if fail_in else [])
    assert [what for what, _ in Notes.told].count(fail_in) == bool(fail_in), "after its first error it is left alone"


def test_an_interrupted_run_goes_on_under_its_id_and_a_tracker_may_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_in(2, patch)
        with pytest.raises(Stop):
            train("half")
    assert Notes.told[-1] == ("end", None)
    train("half")
    first, second = (value for what, value in Notes.told if what == "begin")
    assert first.id == second.id and second.again
    assert [value[0] for what, value in Notes.told if what == "epoch"] == [0, 1, 2, 3]
    whole = train("whole", tracker=None)
    assert outcome(Path("results/half/0")) == outcome(whole.folder / "0")
    assert json.loads(Path("results/half/0/tracker.json").read_text()) == {"notes": first.id}
    count = len(Notes.told)
    assert train("half", tracker=None).results and train("whole").results, "the folder's claim does not change"
    assert len(Notes.told) == count, "finished seeds are not trained"


def test_one_that_never_had_an_epoch_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_in(0, patch)
        with pytest.raises(Stop):
            train("never")
    assert not Notes.told and not Path("results/never").exists()
