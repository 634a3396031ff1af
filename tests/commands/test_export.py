"""``gkd export``, from a run to a process that knows nothing of us."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

import gkd_cli
import gkd_plugin
from gkd_plugin.commands.export import export
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.deploy.folder import CARD, CONFIG, ONNX, PROGRAM, WEIGHTS
from gkd_plugin.errors import UserError
from gkd_plugin.study.card import make_card
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")

PLAIN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gkd_plugin", "gkd_cli", "torch_geometric"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import torch

data = torch.load("graph.pt", weights_only=True)
program = torch.export.load("out/model.pt2").module()
torch.save(program(data["x"], data["edge_index"]), "logits.pt")
assert "gkd_plugin" not in sys.modules and "torch_geometric" not in sys.modules
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a student with three seeds, and its export."""
    from torch_geometric.graphgym import register

    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patched:  # of the function's scope is the fixture of the toy's loader
        patched.setitem(register.loader_dict, "toy", toy.load)
        own = toy.values(folder / "results", model={"type": "gcn"}, optim={"max_epoch": 8})
        run(toy.merge(own, {"gnn": {"dim_inner": 16}}), name="teacher", repeat=3, quiet=True)
        taught = toy.merge(own, {"kd": {"preset": "soft_target", "teacher": "teacher"}})
        run(taught, name="small", repeat=3, quiet=True)
        export(folder / "results" / "small", folder / "out")
    return folder


def test_the_exported_student_is_the_best_seed_by_validation(home: Path) -> None:
    results = [json.loads((home / "results" / "small" / str(n) / "result.json").read_text()) for n in range(3)]
    best = max(range(3), key=lambda number: results[number]["answers"]["s1"]["val"])
    theirs, ours = load_student(home / "results" / "small" / str(best)), gkd_plugin.load_student(home / "out")
    data = toy.community(3)
    assert torch.equal(ours(data), theirs(data)) and not ours.training
    weights = torch.load(home / "results" / "small" / str(best) / "student_1.pt", weights_only=True)
    assert {name: value.tolist() for name, value in load_file(home / "out" / WEIGHTS).items()} == {
        name: value.tolist() for name, value in weights.items()
    }
    with pytest.raises(UserError, match="the only one in its folder"):
        load_student(home / "out", 2)


def test_a_process_without_us_and_pyg_predicts_the_same(home: Path) -> None:
    data = toy.community(5, nodes=77)
    torch.save({"x": data.x, "edge_index": data.edge_index}, home / "graph.pt")
    subprocess.run([sys.executable, "-c", PLAIN], cwd=home, check=True)
    assert torch.allclose(torch.load(home / "logits.pt"), gkd_plugin.load_student(home / "out")(data), atol=1e-6)


def test_the_card_says_what_the_run_says(home: Path) -> None:
    text = (home / "out" / CARD).read_text()
    tests = [
        json.loads((home / "results" / "small" / str(n) / "result.json").read_text())["answers"]["s1"]["test"]
        for n in range(3)
    ]
    mean = sum(tests) / 3
    spread = (sum((value - mean) ** 2 for value in tests) / 2) ** 0.5
    assert f"{mean:.4f} ± {spread:.4f}" in text
    assert "best of 3 by validation" in text and "selected by validation; the test split was read once" in text
    for words in ("Teacher: teacher", "soft_target", "kd_response", "48 nodes", "155 parameters", "None is set here"):
        assert words in text, words
    assert str(home) not in text and "load_student" in text and "torch.export.load" in text
    own = yaml.safe_load((home / "out" / CONFIG).read_text())
    assert str(home) not in (home / "out" / CONFIG).read_text() and own["share"]["dim_in"] == 6


def test_files_hold_no_data_and_are_readable(home: Path) -> None:
    names = {path.name for path in (home / "out").iterdir()}
    assert names - {ONNX} == {WEIGHTS, CONFIG, CARD, PROGRAM}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in [home / "out", *(home / "out").iterdir()])
    assert torch.export.load(home / "out" / PROGRAM).example_inputs is None
    assert sorted(path.name for path in home.iterdir() if path.name.startswith(".")) == []


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "another activation": (lambda out: edit(out / CONFIG, "act: relu", "act: elu"), "is damaged or was changed"),
    "another width": (
        lambda out: edit(out / CONFIG, "dim_inner: 8", "dim_inner: 9"),
        "not those of the network.*size mismatch",
    ),
    "another weight": (lambda out: flip(out / WEIGHTS), "is damaged or was changed"),
    "no weights": (lambda out: (out / WEIGHTS).unlink(), r"has cfg\.yaml and no weights\.safetensors"),
    "no configuration": (lambda out: (out / CONFIG).unlink(), r"has weights\.safetensors and no cfg\.yaml"),
    "no file of weights": (lambda out: (out / WEIGHTS).write_bytes(b"torn"), "cannot be read"),
    "half a file": (lambda out: (out / WEIGHTS).write_bytes((out / WEIGHTS).read_bytes()[:-9]), "cannot be read"),
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def flip(path: Path) -> None:
    """One bit of the last weight."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_export_is_refused(case: str, home: Path, tmp_path: Path) -> None:
    """It would answer with other numbers, and nobody would know."""
    shutil.copytree(home / "out", tmp_path / "out")
    damage, said = DAMAGE[case]
    damage(tmp_path / "out")
    with pytest.raises(UserError, match=said):
        load_student(tmp_path / "out")


def test_another_layout_of_the_configuration_is_no_damage(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "out", tmp_path / "out")
    own = yaml.safe_load((home / "out" / CONFIG).read_text())
    (tmp_path / "out" / CONFIG).write_bytes(yaml.safe_dump(own, sort_keys=False).replace("\n", "\r\n").encode())
    data = toy.community(3)
    assert torch.equal(load_student(tmp_path / "out")(data), load_student(home / "out")(data))


def test_the_card_says_what_is_to_be_done_with_the_data_and_what_comes_out(tmp_path: Path) -> None:
    """Without it the network gives other numbers, which look right."""
    gkd = {"format": "gkd", "name": "digits", "task": "node", "task_type": "classification"}
    own = toy.values(
        tmp_path / "results",
        dataset=gkd,
        splits={"row_normalize": True},
        model={"type": "gcn"},
        gnn={"batchnorm": True},
        gkd_model={"batchnorm": "plain"},
        optim={"max_epoch": 1},
    )
    run(own, name="small", quiet=True)
    export(tmp_path / "results" / "small", tmp_path / "out")
    text = (tmp_path / "out" / CARD).read_text()
    assert "divide each row of `x` by its sum first" in text and "needs two nodes at least" in text
    run(toy.values(tmp_path / "results", dataset={"name": "binary"}, optim={"max_epoch": 1}), name="two", quiet=True)
    export(tmp_path / "results" / "two", tmp_path / "two")
    text = (tmp_path / "two" / CARD).read_text()
    assert "1 output: the logit of class 1 of the two classes" in text and "| prepare |" not in text
    assert load_student(tmp_path / "two")(toy.community(1, classes=2)).shape == (48, 1)


def test_a_seed_may_be_named_and_nothing_is_overwritten(home: Path) -> None:
    for place, words in ((home / "results" / "small", ["--seed", "2"]), (home / "results" / "small" / "2", [])):
        out = home / f"named{len(words)}"
        out.mkdir()  # an empty folder will do
        done = CliRunner().invoke(gkd_cli.main, ["export", str(place), "--out", str(out), *words])
        assert done.exit_code == 0, done.output
        assert "seed folder 2" in done.output and "named by hand" in (out / CARD).read_text()
        before = (out / WEIGHTS).read_bytes()
        again = CliRunner().invoke(gkd_cli.main, ["export", str(place), "--out", str(out)])
        assert again.exit_code == 2 and "not empty. Nothing is overwritten" in again.output
        assert (out / WEIGHTS).read_bytes() == before


def test_what_cannot_be_exported_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    own = toy.values(tmp_path / "results", model={"type": "edgeconv"}, gkd_model={"k": 3}, optim={"max_epoch": 1})
    run(own, name="moving", quiet=True)
    made = export(tmp_path / "results" / "moving", tmp_path / "out")
    assert "not written, in mp.layer0.layer (EdgeConvolution)" in str(made)
    assert "(EdgeConvolution)" in (tmp_path / "out" / CARD).read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WEIGHTS, CONFIG, CARD}
    data = toy.community(1)
    assert torch.equal(load_student(tmp_path / "out")(data), load_student(tmp_path / "results" / "moving" / "0")(data))


def test_missing_packages_of_onnx_are_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.deploy.onnx_file.find_spec", lambda name: None)
    made = gkd_plugin.export(home / "results" / "small", tmp_path / "out")
    assert "model.onnx: not written, it needs onnx, onnxscript, onnxruntime: pip install 'gkd_plugin[onnx]'" in str(
        made
    )
    assert "not written, it needs onnx" in (tmp_path / "out" / CARD).read_text()


def test_a_full_disk_is_one_message(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gkd_plugin.commands.export.write_student", fill)
    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        export(home / "results" / "small", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("links", {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}}),
        ("many", {"dataset": {"name": "many", "task": "node"}}),
    ],
)
def test_other_tasks_from_a_run_to_a_program(name: str, groups: dict[str, Any], tmp_path: Path) -> None:
    run(toy.values(tmp_path / "results", **groups, optim={"max_epoch": 1}), name=name, quiet=True)
    made = export(tmp_path / "results" / name, tmp_path / "out")
    assert PROGRAM in made.contents.there, str(made)
    data, student = toy.community(2), load_student(tmp_path / "out")
    further = {"edge_label_index": torch.tensor([[0, 1, 5], [2, 2, 9]])} if name == "links" else {}
    program = torch.export.load(tmp_path / "out" / PROGRAM).module()
    expected = student(data.x, data.edge_index, **further)
    assert torch.allclose(program(data.x, data.edge_index, *further.values()), expected, atol=1e-6)
    assert f"program({', '.join(['x', 'edge_index', *further])})" in (tmp_path / "out" / CARD).read_text()


def test_the_student_of_an_ensemble_is_shown_with_its_own_score(tmp_path: Path) -> None:
    keys = {"preset": "mutual", "students": 2, "predict": "ensemble"}
    (result,) = run(toy.values(tmp_path / "results", kd=keys), name="two", quiet=True).results
    made = export(tmp_path / "results" / "two", tmp_path / "out")
    assert made.chosen.number == result.best_student
    text = (tmp_path / "out" / CARD).read_text()
    assert f"{result.answers[f's{result.best_student}'].test:.4f}" in text and "answers as an ensemble" in text
    assert "No teacher: its terms have other sources" in text


def test_bad_input_is_one_message(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / "small"
    shutil.copytree(home / "results" / "small", copied)

    def refuse(*words: object) -> str:
        done = CliRunner().invoke(gkd_cli.main, ["export", *map(str, words), "--out", str(tmp_path / "new")])
        assert done.exit_code == 2, done.output
        assert not (tmp_path / "new").exists() and "Traceback" not in done.output
        return str(done.output)

    assert "there is no such folder" in refuse(tmp_path / "nowhere")
    assert "no finished seed 7; finished: 0, 1, 2" in refuse(copied, "--seed", 7)
    assert "is a folder of runs. Name one of them: small, teacher" in refuse(home / "results")
    assert "contains no finished run" in refuse(home / "out")
    assert "--seed asks for 1" in refuse(copied / "0", "--seed", 1)
    (copied / "0" / "student_1.pt").write_bytes(b"0")
    assert "is damaged" in refuse(copied / "0")
    for path in copied.glob("*/result.json"):
        path.unlink()
    assert "is not finished: no seed in it has a result.json" in refuse(copied)
    unfinished = f"{copied / '1'} is one seed, and it is not finished: it has no result.json. The same gkd run command"
    assert unfinished in refuse(copied / "1") and unfinished in refuse(copied / "1" / ".." / "1")
    with pytest.raises(UserError, match=re.escape(unfinished)):
        load_student(copied / "1")
    (copied / "1" / "failed.json").write_text('{"error": "the loss is NaN"}')
    for folder in (copied, copied / "1"):
        assert f"{copied / '1'} failed, as its failed.json says: the loss is NaN" in refuse(folder)
        with pytest.raises(UserError, match="failed.json says: the loss is NaN"):
            load_student(folder)
    shutil.copy(
        home / "results" / "small" / "0" / "result.json", copied / "0"
    )  # one seed is finished, another is asked for
    assert "failed.json says: the loss is NaN" in refuse(copied, "--seed", 1)
    assert "is one seed, and it is not finished" in refuse(copied, "--seed", 2)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert "pip install 'gkd_plugin[export]'" in refuse(home / "results" / "small")


@pytest.mark.parametrize("found", [None, 5, ["results/small"]])
def test_what_names_no_folder_is_one_message(found: Any, tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: load_student(found),
        lambda: export(found, tmp_path / "new"),
        lambda: make_card(found),
    ]
    for call in calls:
        with pytest.raises(
            UserError, match=re.escape(f"{found!r} names no folder. Give that of a run as text or a Path")
        ):
            call()
