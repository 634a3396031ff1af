"""A finished or interrupted seed serves again only with the teacher and the data that it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import gkd_cli
from gkd_plugin.commands import reuse
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from tests import toy
from tests.running import Stop, outcome, stop_in
from tests.toy import config, swap_masks

pytestmark = pytest.mark.usefixtures("toy_data")

SOFT = {"kd_response": {"weight": 1.0, "nodes": "all"}}
SHORT = {"optim": {"max_epoch": 2}, "gnn": {"dropout": 0.0}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Says(nn.Module):
    """A teacher that gives what it was given, from an attribute that is no parameter."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.logits = torch.randn(48, 3, generator=torch.Generator().manual_seed(seed))
        self.calls = 0

    def forward(self, batch: Any) -> torch.Tensor:
        self.calls += 1
        self._kept = batch.x
        return self.logits


def train_teacher(seed: int) -> dict[str, Any]:
    run(toy.values(Path("results"), **SHORT, seed=seed), name="wide", quiet=True, fresh=True)
    return {}


def write_file(seed: int) -> dict[str, Any]:
    Path("results").mkdir(exist_ok=True)
    np.savez("results/wide.npz", logits=np.random.default_rng(seed).normal(size=(48, 3)))
    return {}


def build_data(seed: int, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None] | None = None) -> None:
    data = toy.community(seed)
    if change is not None:
        change(data)
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [data])


def change_teacher(kind: str, version: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Puts a version of the teacher or the data in place; what :func:`run` gets beside the configuration."""
    if kind == "module":
        return {"teacher": Says(version)}
    if kind == "module again":
        return {"teacher": Says(0)}
    if kind == "run":
        return train_teacher(version)
    if kind == "run again":
        return train_teacher(0)
    if kind in ("file", "file again"):
        return write_file(version if kind == "file" else 0)
    change = swap_masks if kind == "masks" and version else None
    build_data(version if kind == "data" else 0, monkeypatch, change)
    return {}


KD = {
    "module": {},
    "module again": {},
    "run": {"teacher": "wide", "teacher_seed": "best"},
    "run again": {"teacher": "wide", "teacher_seed": "best"},
    "file": {"teacher": "wide.npz"},
    "file again": {"teacher": "wide.npz"},
}


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("module", "its teacher 'module' has changed since"),
        ("run", "its teacher 'wide' has changed since"),
        ("file", "its teacher 'wide.npz' has changed since"),
        ("data", "its data set (features, labels, edges or splits) has changed since"),
        ("masks", "its data set (features, labels, edges or splits) has changed since"),
        ("module again", None),
        ("run again", None),
        ("file again", None),
        ("data again", None),
    ],
)
def test_a_finished_seed_whose_teacher_or_data_differ_is_refused(
    kind: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = SOFT if kind in KD else {}
    values = toy.values(Path("results"), **SHORT, **terms, kd=KD.get(kind, {}))
    first = run(values, name="study", quiet=True, **change_teacher(kind, 0, monkeypatch))
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    second = change_teacher(kind, 1, monkeypatch)
    state = torch.random.get_rng_state()
    if found is None:
        assert run(values, name="study", quiet=True, **second).results == first.results
    else:
        with pytest.raises(UserError) as error:
            run(values, name="study", quiet=True, repeat=2, **second)
        assert f"results/study/0 is finished, but {found}." in str(error.value)
        assert "--fresh" in str(error.value) and "--name" in str(error.value)
        assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before
        run(values, name="study", quiet=True, fresh=True, **second)
    assert found is not None or torch.equal(torch.random.get_rng_state(), state)


def test_the_command_says_it_once_with_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, **SHORT)
    build_data(0, monkeypatch)
    run(path, quiet=True)
    build_data(1, monkeypatch)
    done = CliRunner().invoke(gkd_cli.main, ["run", "--cfg", str(path)])
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert done.output.count("its data set") == 1


@pytest.mark.parametrize("changed", ["data", "teacher", None])
def test_an_interrupted_seed_goes_on_only_with_the_same(
    changed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = toy.values(Path("results"), train={"ckpt_period": 1}, **SOFT)
    build_data(0, monkeypatch)
    whole = run(values, name="whole", quiet=True, teacher=Says(0))
    with pytest.MonkeyPatch.context() as patch:
        stop_in(2, patch)
        with pytest.raises(Stop):
            run(values, name="study", quiet=True, teacher=Says(0))
    build_data(int(changed == "data"), monkeypatch)
    folder, teacher = Path("results/study/0"), Says(int(changed == "teacher"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if changed is None:
        run(values, name="study", quiet=True, teacher=teacher)
        assert outcome(folder) == outcome(whole.folder / "0")
        return
    with pytest.raises(UserError, match=rf"study/0 was interrupted, and its {changed}.* has changed since.*--fresh"):
        run(values, name="study", quiet=True, teacher=teacher)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("gone", ["record", "teacher", "data"])
def test_what_cannot_be_compared_is_still_read(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = toy.values(Path("results"), **SHORT, **SOFT, kd={"teacher": "wide.npz"})
    write_file(0)
    first = run(values, name="study", quiet=True)
    path = first.folder / "0" / "result.json"
    assert set(first.results[0].depends) == {"data", "teachers"}
    if gone == "record":  # a result of an earlier version, and another teacher since
        content = json.loads(path.read_text())
        del content["depends"]
        path.write_text(json.dumps(content))
        write_file(1)
    elif gone == "teacher":
        Path("results/wide.npz").unlink()
    else:
        monkeypatch.setitem(toy.SETS, "nodes", lambda: [][0])
    assert run(values, name="study", quiet=True).results[0].answers == first.results[0].answers


@pytest.mark.parametrize(("splits", "loads"), [("fixed", 1), ("by seed", 3)])
def test_data_are_loaded_once_for_seeds_that_share_them(
    splits: str, loads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = toy.values(Path("results"), **SHORT)
    if splits == "by seed":
        values["dataset"] = {**values["dataset"], "format": "gkd", "name": "digits"}
        values["splits"] = {"kind": "random"}
    run(values, name="study", repeat=3, quiet=True)
    calls, plain = [], reuse.load
    monkeypatch.setattr(reuse, "load", lambda cfg: (calls.append(cfg.seed), plain(cfg))[1])
    run(values, name="study", repeat=3, quiet=True)
    assert calls == [1, 2, 3][:loads]


def test_a_teacher_whose_seed_is_gone_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    train_teacher(0)
    student = toy.values(Path("results"), **SHORT, kd={"teacher": "wide"}, **SOFT)
    first = run(student, name="small", quiet=True)
    train_teacher(5)  # into seed folder 5 of a new run of the same name
    capsys.readouterr()
    again = run(student, name="small", quiet=True)
    assert again.results[0].answers == first.results[0].answers
    said = capsys.readouterr().err
    assert (
        "whether its teacher is still what it was cannot be told: kd.teacher_seed: match asks for seed folder" in said
    )
