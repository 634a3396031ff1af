"""``gkd run`` with a teacher: by run name, from a YAML of its own, from a file, as a module; and what is refused."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from filelock import FileLock
from torch import nn
from torch_geometric.graphgym import register

import gkd_cli
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Kernel
from gkd_plugin.space.knowledge.structure import StructureTerm
from gkd_plugin.space.observation import Graph, Observation
from gkd_plugin.training.teachers.cache import VARIABLE
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.toy import config, toy_data  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("toy_data")

BIG = {"gnn": {"dim_inner": 16, "dropout": 0.0}, "optim": {"max_epoch": 6}}
SOFT = {"kd_response": {"weight": 1.0, "nodes": "all"}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)


def teach(folder: Path, name: str = "wide", repeat: int = 1, **groups: Any) -> Path:
    """A trained teacher ``results/<name>``."""
    keys = {**groups, **{group: {**big, **groups.get(group, {})} for group, big in BIG.items()}}
    return run(config(folder, name, **keys), repeat=repeat, quiet=True).folder


def student(folder: Path, name: str = "narrow", **groups: Any) -> Path:
    return config(folder, name, **{**SOFT, **groups, "kd": {"teacher": "wide", **groups.get("kd", {})}})


def weights(folder: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / str(seed) / "student_1.pt", weights_only=True)
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def result(folder: Path, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / str(seed) / "result.json").read_text())
    return found


def refused(path: Path, *overrides: str) -> str:
    """The one message with which ``gkd run`` ends with code 2; nothing of the run is left behind."""
    before = sorted(path.parent.rglob("*"))
    done = CliRunner().invoke(gkd_cli.main, ["run", "--cfg", str(path), *overrides])
    assert done.exit_code == 2, (done.output, done.exception)
    assert sorted(path.parent.rglob("*")) == before
    lines = [line for line in done.output.splitlines() if line and "warning" not in line]
    return "\n".join(lines)


# -- by run name ------------------------------------------------------------------------------------------------------


def test_a_run_of_ours_teaches_and_is_no_part_of_its_student(tmp_path: Path) -> None:
    teacher = teach(tmp_path, gnn={"batchnorm": True})
    before = weights(teacher)
    report = run(student(tmp_path, kd_feature={"weight": 1.0, "layer_map": "uniform"}), quiet=True)
    alone = run(config(tmp_path, "alone"), quiet=True)
    assert report.results[0].parameters == alone.results[0].parameters
    assert weights(report.folder).keys() == weights(alone.folder).keys()
    assert not same(weights(report.folder), weights(alone.folder))
    assert same(weights(teacher), before)
    told = result(report.folder)["teacher"]
    assert (told["name"], told["val"]) == ("wide", result(teacher)["answers"]["best"]["val"])
    assert "teacher" not in result(alone.folder)


@pytest.mark.parametrize("draws", [False, True])
def test_a_teacher_leaves_no_trace_in_the_random_stream(draws: bool, tmp_path: Path) -> None:
    """With a weight that changes no bit of the gradient, a taught run is the plain one."""
    sampling = {"layer_type": "generalsampleedgeconv", "keep_edge": 0.999} if draws else {}  # in evaluation, too
    data = {"dataset": {"name": "edge_features", "edge_dim": 4}}
    teach(tmp_path, gnn={"dropout": 0.5, "batchnorm": True, **sampling}, **data)
    taught = run(student(tmp_path, kd_response={"weight": 1e-40}, **data), quiet=True)
    alone = run(config(tmp_path, "alone", **data), quiet=True)
    assert taught.results[0].answers == alone.results[0].answers
    assert same(weights(taught.folder), weights(alone.folder))


def test_with_weights_of_0_nothing_is_looked_for(tmp_path: Path) -> None:
    path = student(tmp_path, kd={"preset": "lsp", "teacher": "nobody"}, kd_structure={"weight": 0}, kd_response={})
    report = run(path, quiet=True)
    assert same(weights(report.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


def test_the_control_of_a_taught_student_needs_no_teacher(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    path = student(tmp_path)
    report = run(path, quiet=True)
    shutil.rmtree(teacher)
    report = run(path, control=True, quiet=True)
    assert report.control is not None and len(report.control.results) == 1
    assert same(weights(report.control.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


@pytest.mark.parametrize(("which", "expected"), [("match", [0, 1]), ("best", None), (1, [1, 1])])
def test_which_seed_teaches_is_a_key(which: str | int, expected: list[int] | None, tmp_path: Path) -> None:
    teacher = teach(tmp_path, repeat=2)
    if expected is None:
        values = [result(teacher, seed)["answers"]["best"]["val"] for seed in (0, 1)]
        assert values[0] != values[1], "choose another length: both seeds are equally good"
        expected = [values.index(max(values))] * 2
    report = run(student(tmp_path, kd={"teacher_seed": which}), repeat=2, quiet=True)
    told = [Path(result(report.folder, seed)["teacher"]["from"]).parent.name for seed in (0, 1)]
    assert told == [str(seed) for seed in expected]


def test_a_teacher_that_is_no_better_than_its_student_is_named(tmp_path: Path) -> None:
    teach(tmp_path, optim={"max_epoch": 1, "base_lr": 1e-6})
    teach(tmp_path, "good", optim={"max_epoch": 60})
    report = run(student(tmp_path, optim={"max_epoch": 30}), quiet=True)
    assert [line for line in report.results[0].warnings if "kd.teacher: wide has accuracy" in line]
    report = run(student(tmp_path, "short", kd={"teacher": "good"}, optim={"max_epoch": 1}), quiet=True)
    assert not [line for line in report.results[0].warnings if "kd.teacher" in line]


def multilabel() -> list[Any]:
    data = toy.community(0)
    data.y = torch.stack([data.y == 0, data.y > 0, data.x[:, 0] > 0], dim=1).float()
    return [data]


TASKS: dict[str, dict[str, Any]] = {
    "binary": {"dataset": {"name": "binary"}},
    "regression": {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}},
    "links": {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
    "many": {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
    "multilabel": {
        "dataset": {"name": "multilabel", "task_type": "classification_multilabel"},
        "custom_metrics": ["f1_micro"],
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "multilabel", multilabel)
    teach(tmp_path, **TASKS[task])
    terms = {"kd_response": {"weight": 1.0}, "kd_feature": {"weight": 1.0, "layer_map": "uniform"}}
    taught = run(student(tmp_path, **terms, **TASKS[task]), quiet=True)
    alone = run(config(tmp_path, "alone", **TASKS[task]), quiet=True)
    assert not same(weights(taught.folder), weights(alone.folder))
    assert result(taught.folder)["teacher"]["metric"] == taught.results[0].metric


@pytest.mark.parametrize(
    ("family", "preset"),
    [("gcn", "abkd"), ("gat", "lsp"), ("sage", "gcrd"), ("gcnii", "stride"), ("mlp", "glnn"), ("gnn", "abkd")],
)
def test_families_mix(family: str, preset: str, tmp_path: Path) -> None:
    keys = {"layers_mp": 5, "batchnorm": family in ("gnn", "sage"), "act": "relu"}
    teach(tmp_path, model={"type": family}, gnn=keys, optim={"max_epoch": 1})
    learner = {"gcn": "mlp", "gnn": "gat", "mlp": "gcn"}.get(family, "gnn")
    keys = {"kd": {"preset": preset}, "model": {"type": learner}, "optim": {"max_epoch": 2}, "kd_response": {}}
    assert run(student(tmp_path, **keys), quiet=True).results


def test_an_interrupted_taught_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    keys = {"train": {"enable_ckpt": True, "ckpt_period": 1}}
    whole = run(student(tmp_path, "whole", **keys), quiet=True)
    plain, calls = Trainer._evaluate, [0]

    def interrupted(self: Trainer, *args: Any) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        plain(self, *args)

    monkeypatch.setattr(Trainer, "_evaluate", interrupted)
    path = student(tmp_path, **keys)
    with pytest.raises(KeyboardInterrupt):
        run(path, quiet=True)
    (checkpoint,) = sorted((tmp_path / "results/narrow/0/ckpt").iterdir())[-1:]
    state = torch.load(checkpoint, weights_only=True)
    assert [len(s["model"]) for s in state["students"]] == [len(weights(whole.folder))]
    report = run(path, quiet=True)
    assert report.results[0].answers == whole.results[0].answers
    assert same(weights(report.folder), weights(whole.folder))


# -- a YAML of its own ------------------------------------------------------------------------------------------------


def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The seed folders that are really trained from now on."""
    from gkd_plugin.host import cfg

    folders: list[Path] = []
    plain = Trainer.run

    def watched(self: Trainer, seed: int) -> Any:
        folders.append(Path(cfg.run_dir).relative_to(Path.cwd() / "results"))
        return plain(self, seed)

    monkeypatch.setattr(Trainer, "run", watched)
    return folders


def test_a_teacher_is_trained_once_for_all_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, "wide", **BIG)
    done = trained(monkeypatch)
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    run(student(tmp_path, "first", kd=keys), quiet=True)
    assert list(map(str, done)) == ["wide/0", "first/0"]
    run(student(tmp_path, "second", kd=keys, num_threads=2), repeat=2, quiet=True)
    assert list(map(str, done[2:])) == ["wide/1", "second/0", "second/1"]
    run(student(tmp_path, "third", kd={**keys, "teacher_seed": 4}), quiet=True)
    assert list(map(str, done[5:])) == ["wide/4", "third/0"]
    run(student(tmp_path, "fourth", kd={**keys, "teacher_seed": "best"}), quiet=True)
    assert list(map(str, done[7:])) == ["fourth/0"]
    run(student(tmp_path, "fifth", kd={"teacher": "other", "teacher_cfg": "wide"}), quiet=True)
    assert list(map(str, done[8:])) == ["other/0", "fifth/0"]


def test_a_student_waits_for_a_teacher_that_another_process_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, "wide", **BIG)
    path = student(tmp_path, kd={"teacher": None, "teacher_cfg": "wide.yaml"})
    teacher = teach(tmp_path)
    teacher.rename(tmp_path / "made")
    teacher.mkdir()
    lock = FileLock(teacher.parent / ".wide.lock")
    lock.acquire()
    done = trained(monkeypatch)
    other = threading.Thread(target=run, args=(path,), kwargs={"quiet": True})
    other.start()
    other.join(timeout=1)
    assert other.is_alive() and not done
    shutil.copytree(tmp_path / "made", teacher, dirs_exist_ok=True)
    lock.release()
    other.join(timeout=60)
    assert list(map(str, done)) == ["narrow/0"]


def test_a_teachers_yaml_that_changed_since_is_told(tmp_path: Path) -> None:
    config(tmp_path, "wide", **BIG)
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    run(student(tmp_path, kd=keys), quiet=True)
    config(tmp_path, "wide", gnn={"dim_inner": 12}, optim={"max_epoch": 6})
    text = refused(student(tmp_path, "later", kd=keys))
    assert "kd.teacher_cfg" in text and "gnn.dim_inner: was 16, now 12" in text and "kd.teacher: NAME" in text


def test_a_teachers_yaml_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    text = refused(student(tmp_path, kd=keys))
    assert "kd.teacher_cfg: there is no 'wide.yaml'" in text and str(tmp_path) in text
    config(tmp_path, "wide", gnn={"dim_iner": 3})
    assert "gnn.dim_iner" in refused(student(tmp_path, kd=keys))
    config(tmp_path, "wide", dataset={"name": "no_masks"})
    assert "no_masks" in refused(student(tmp_path, kd=keys))
    student(tmp_path, "wide", kd={"teacher": None, "teacher_cfg": "narrow"})
    assert "its own teacher (narrow.yaml -> wide.yaml -> narrow.yaml)" in refused(student(tmp_path, kd=keys))


# -- files and modules ------------------------------------------------------------------------------------------------


def arrays(seed: int = 0, nodes: int = 48, classes: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shapes = {"logits": (nodes, classes), "layer_1": (nodes, 5), "layer_2": (nodes, 5), "layer_3": (nodes, 5)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


class Said(nn.Module):
    """Answers with fixed numbers, in whatever form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.calls = form, 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Any) -> Any:
        self.calls += 1
        assert not self.training and not torch.is_grad_enabled()
        said = {name: self.dropout(torch.from_numpy(array)) for name, array in arrays().items()}
        if self.form == "observation":
            layers = tuple(said[f"layer_{n}"] for n in (1, 2, 3))
            return Observation(said["logits"], {"layer": layers}, Graph(batch.edge_index, batch.num_nodes))
        return (said["logits"], batch.y) if self.form == "pair" else said["logits"]


@pytest.mark.parametrize("form", ["npz", "npz by id", "safetensors", "logits", "pair", "observation"])
def test_the_same_numbers_teach_the_same_whatever_holds_them(form: str, tmp_path: Path) -> None:
    layers = {"kd_structure": {"weight": 1.0, "tap": "layer", "layer_map": "uniform"}} if form != "logits" else {}
    layers = {} if form == "pair" else layers
    Path("results").mkdir()
    np.savez("results/said.npz", **arrays())
    expected = run(student(tmp_path, "expected", kd={"teacher": "said.npz"}, **layers), quiet=True)
    if form == "npz":  # also where the results' parent holds it
        shutil.move("results/said.npz", "said.npz")
        found = run(student(tmp_path, kd={"teacher": "said.npz"}, **layers), quiet=True)
    elif form == "npz by id":
        order = np.random.default_rng(3).permutation(48)
        np.savez("results/mixed.npz", node_id=order, **{name: array[order] for name, array in arrays().items()})
        found = run(student(tmp_path, kd={"teacher": "mixed.npz"}, **layers), quiet=True)
    elif form == "safetensors":
        numpy = pytest.importorskip("safetensors.numpy")
        numpy.save_file(arrays(), "results/said.safetensors")
        found = run(student(tmp_path, kd={"teacher": "said.safetensors"}, **layers), quiet=True)
    else:
        module = Said(form).train()
        found = run(config(tmp_path, "narrow", **SOFT, **layers), teacher=module, quiet=True)
        assert module.training and module.dropout.training
        assert module.calls == 1  # one fixed graph
    assert same(weights(found.folder), weights(expected.folder))
    assert not same(weights(found.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": None}, ["layer_1", "it needs 'logits'"]),
        ({"logits": np.zeros((40, 3))}, ["layer_1", "48 rows, logits has 40"]),
        ({"node_id": np.arange(48) // 2}, ["node_id", "0 to 47 once"]),
        ({"node_id": np.arange(48) + 0.5}, ["node_id"]),
        ({"node_id": np.arange(47)}, ["node_id"]),
        ({"logits": np.full((48, 3), np.nan)}, ["logits", "NaN", "48 of 48 nodes (0, 1, 2, 3, 4, ...)"]),
        ({"layer_2": np.where(np.eye(48, 5) > 0, np.inf, 1.0)}, ["layer_2", "5 of 48 nodes"]),
        ({"logits": np.full((48, 3), 1e300)}, ["logits", "infinite"]),
        ({"logits": np.zeros((48, 3, 2))}, ["logits", "[48, 3, 2]"]),
        ({"logits": np.float64(3)}, ["logits", "[]"]),
        ({"logits": np.zeros((48, 4))}, ["gives 4 logits for each item", "students give 3", "same classes"]),
        ({"layer_2": None}, ["layer_1, layer_3", "called layer_1, layer_2"]),
        ({"layer_x": np.zeros((48, 2))}, ["layer_x"]),
        ({"logits": np.array([{"a": 1}] * 48, dtype=object)}, ["cannot be read as plain arrays", "allow_pickle"]),
        ({"logits": np.array(["cat"] * 48)}, ["cannot be read as plain arrays"]),
    ],
)
def test_files_with_something_wrong(change: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    said = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    np.savez(tmp_path / "said.npz", **said)  # type: ignore[arg-type]
    text = refused(student(tmp_path, kd={"teacher": "said.npz"}))
    assert all(word in text for word in ["kd.teacher", *words]), text


def test_files_of_other_nodes_or_no_file_at_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "said.npz", **arrays(nodes=40))
    path = student(tmp_path, kd={"teacher": "said.npz"})
    assert "has 40 rows, the graph 48 nodes; every node needs one" in refused(path)
    (tmp_path / "said.npz").write_bytes(b"PK\x03\x04 torn")
    assert "cannot be read as plain arrays" in refused(path)
    (tmp_path / "said.npz").unlink()
    (tmp_path / "said.pkl").write_bytes(b"")
    assert "Allowed: .npz, .safetensors" in refused(student(tmp_path, kd={"teacher": "said.pkl"}))
    np.savez(tmp_path / "said.npz", logits=arrays()["logits"])
    keys = {"kd_feature": {"weight": 1.0, "layer_map": "uniform"}}
    assert "gives no hidden states" in refused(student(tmp_path, kd={"teacher": "said.npz"}, **keys))


def test_files_teach_nodes_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "said.npz", **arrays())
    path = student(
        tmp_path,
        kd={"teacher": "said.npz"},
        dataset={"name": "links", "task": "link_pred"},
        kd_response={"weight": 1.0},
    )
    assert "task on edges" in refused(path)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda batch: None, "returned NoneType"),
        (lambda batch: batch.x[:5, :3], "5 rows of logits for 48 nodes"),
        (lambda batch: batch.x[:, :3] * float("nan"), "NaN"),
        (lambda batch: batch.x[:, :2], "classes"),
    ],
)
def test_modules_with_something_wrong(answer: Any, words: str, tmp_path: Path) -> None:
    module = nn.Module()
    module.forward = answer  # type: ignore[method-assign]
    with pytest.raises(UserError, match=words):
        run(config(tmp_path, "narrow", **SOFT), teacher=module, quiet=True)
    assert not (tmp_path / "results" / "narrow").exists()


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_teacher_that_is_missing_or_unfinished(tmp_path: Path) -> None:
    text = refused(student(tmp_path, kd={"teacher": "wide"}))
    assert "there is no 'wide'" in text and str(tmp_path / "results") in text and "kd.teacher_cfg" in text
    teacher = teach(tmp_path)
    assert "Did you mean 'wide'?" in refused(student(tmp_path, kd={"teacher": "wied"}))
    assert "asks for seed folder 3" in refused(student(tmp_path, kd={"teacher_seed": 3}))
    assert "'narrow' is this run itself" in refused(student(tmp_path, kd={"teacher": "narrow"}))
    (teacher / "0" / "result.json").write_text('{"seed": 1}')
    assert "is not a result of gkd_plugin" in refused(student(tmp_path))
    (teacher / "0" / "result.json").unlink()
    assert "contains no finished run" in refused(student(tmp_path))


@pytest.mark.parametrize("name", ["../wide", "/etc/passwd", "a/../../wide", "..", "~/wide"])
@pytest.mark.parametrize("key", ["teacher", "teacher_cfg"])
def test_a_name_never_leaves_its_folder(key: str, name: str, tmp_path: Path) -> None:
    assert f"kd.{key}: '{name}'" in refused(student(tmp_path, kd={key: name}))


def test_layers_that_the_teacher_does_not_have(tmp_path: Path) -> None:
    teach(tmp_path)
    for pairs, side in (("1~7", "source layer 7"), ("9~1", "learner layer 9")):
        text = refused(student(tmp_path, kd_feature={"weight": 1.0, "layer_map": "pairs", "pairs": pairs}))
        assert "kd_feature.pairs: " in text and f"{side} does not exist" in text and "Allowed: 1 to 2" in text


def test_all_pairs_of_a_graph_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.space.knowledge.structure.MATRIX_BYTES", 4096)
    teach(tmp_path)
    text = refused(student(tmp_path, kd_structure={"weight": 1.0, "domain": "all_pairs"}))
    assert "all pairs of 48 nodes" in text and "Set kd_structure.samples to 32 or less" in text


def test_a_preset_that_needs_a_teacher_and_has_none(tmp_path: Path) -> None:
    text = refused(config(tmp_path, "narrow", kd={"preset": "fitnet"}))
    assert "kd.teacher: not set" in text and "preset fitnet" in text


def test_a_teacher_of_other_data_or_labels(tmp_path: Path) -> None:
    teach(tmp_path, dataset={"name": "binary"})
    text = refused(student(tmp_path))
    assert "dataset.name: binary for the teacher, nodes here" in text and "labels or splits differ" in text
    teach(tmp_path, "graphs", dataset={"name": "many"})
    assert "dataset.name: many for the teacher" in refused(student(tmp_path, kd={"teacher": "graphs"}))
    regression = {"name": "regression", "task_type": "regression"}
    teach(tmp_path, "numbers", dataset=regression, model={"loss_fun": "mse"})
    assert "task_type: regression for the teacher" in refused(student(tmp_path, kd={"teacher": "numbers"}))
    # one number for each item, as the student gives it, of the same items, which means something else
    teach(tmp_path, "values", dataset={"name": "binary", "task_type": "regression"}, model={"loss_fun": "mse"})
    text = refused(student(tmp_path, dataset={"name": "binary"}, kd={"teacher": "values"}))
    assert "values predicts another task (dataset.task_type: regression for the teacher, classification here)" in text


def test_data_that_changed_under_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [toy.community(0, classes=4)])
    text = refused(student(tmp_path))
    assert "do not fit the network that wide describes" in text and "size mismatch" in text
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [toy.community(7)])
    text = refused(student(tmp_path))
    assert "wide has accuracy" in text and "result.json says" in text


def test_weights_that_are_other_ones(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    path = teacher / "0" / "student_1.pt"
    good = torch.load(path, weights_only=True)
    torch.save({name: -value for name, value in good.items()}, path)
    assert "on the validation split here, but" in refused(student(tmp_path))
    torch.save({name: value * float("nan") for name, value in good.items()}, path)
    assert "on the validation split here, but" in refused(student(tmp_path))
    torch.save(dict(list(good.items())[:-1]), path)
    assert "do not fit" in refused(student(tmp_path))
    torch.save({"state_dict": [1, 2]}, path)
    assert "contains no state dict" in refused(student(tmp_path))
    path.write_bytes(b"not a tensor file")
    assert "is not a tensor file" in refused(student(tmp_path))
    path.unlink()
    assert "are missing" in refused(student(tmp_path))


class _Code:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    torch.save({"state_dict": _Code()}, teacher / "0" / "student_1.pt")
    text = refused(student(tmp_path))
    assert "contains pickled code, which is never run (UnpicklingError: Weights only load failed)" in text
    np.savez(tmp_path / "said.npz", logits=np.array([_Code()] * 48, dtype=object))
    assert "plain arrays" in refused(student(tmp_path, kd={"teacher": "said.npz"}))
    assert not (tmp_path / "executed").exists()


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    stored = teacher / "0" / "student_1.yaml"
    values = yaml.safe_load(stored.read_text())
    stored.write_text(yaml.safe_dump({**values, "model": {**values["model"], "type": "mine"}}))
    assert "model.type: mine" in refused(student(tmp_path))
    stored.write_text(yaml.safe_dump({**values, "gnn": {"dim_inner": "wide"}}))
    assert "is not a configuration of this host" in refused(student(tmp_path))
    stored.write_text("- a\n- list\n")
    assert "is not a configuration" in refused(student(tmp_path))


def test_a_teacher_that_did_not_see_all(tmp_path: Path) -> None:
    teach(tmp_path, kd={"hide_edges": 0.5})
    assert "was trained with hidden edges (kd.hide_edges: 0.5)" in refused(student(tmp_path))


def test_an_ensemble_is_no_single_teacher(tmp_path: Path) -> None:
    teach(tmp_path, kd={"students": 2, "predict": "ensemble"})
    assert "predicts as an ensemble" in refused(student(tmp_path))


def test_the_best_student_of_a_cohort_teaches(tmp_path: Path) -> None:
    teacher = teach(tmp_path, kd={"students": 3})
    told = result(run(student(tmp_path), quiet=True).folder)["teacher"]
    assert told["val"] == result(teacher)["answers"]["best"]["val"]


def test_unlabelled_nodes_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def labelled() -> list[Any]:
        data = toy.community(0)
        data.train_mask = torch.ones(48, dtype=torch.bool)
        return [data]

    monkeypatch.setitem(toy.SETS, "nodes", labelled)
    teach(tmp_path)
    text = refused(student(tmp_path, kd_response={"weight": 1.0, "nodes": "unlabeled"}))
    assert "all 48 nodes are in the training mask" in text


def test_edges_are_hidden_on_one_fixed_graph_only(tmp_path: Path) -> None:
    text = refused(config(tmp_path, "narrow", dataset={"name": "many"}, kd={"hide_edges": 0.5}))
    assert "kd.hide_edges: 0.5" in text and "one fixed graph only" in text


# -- networks without mp ------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    """A network of the user's, whose layers the host does not know."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        width = cfg.gnn.dim_inner
        self.layers = nn.ModuleList([nn.Linear(dim_in, width), nn.Linear(width, width)])
        self.out = nn.Linear(width, dim_out)

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = batch.x
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x), batch.y


def test_layers_of_a_teacher_without_mp_are_named_by_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.register_network("bare", Bare)
    bare = {"model": {"type": "bare"}}
    layers = {"kd_feature": {"weight": 1.0, "layer_map": "one_to_one"}}
    folder = teach(tmp_path, **bare)
    text = refused(student(tmp_path, **layers))
    assert "network of wide (model.type: bare) has no part called 'mp'" in text and "layers.1, out" in text
    assert "kd_response" in text and "docs/teachers.md" in text
    assert run(student(tmp_path, "logits"), quiet=True).results
    monkeypatch.setenv(VARIABLE, "kept")
    keys = {**bare, **layers, "kd": {"layers": "layers.*"}}
    found = run(student(tmp_path, "found", **keys), quiet=True)
    run(student(tmp_path, "less", **{**keys, "kd": {"layers": "layers.0"}}), quiet=True)
    assert sorted(len(torch.load(file, weights_only=True)["hidden"]["conv"]) for file in kept("logits")) == [1, 2]
    # as if the teacher's own run had named them
    path = folder / "0" / "student_1.yaml"
    own = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**own, "kd": {**own["kd"], "layers": "layers.*"}}))
    assert same(weights(found.folder), weights(run(student(tmp_path, "own", **keys), quiet=True).folder))


# -- teach once -------------------------------------------------------------------------------------------------------

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
    assert set(torch.load(file, weights_only=True)) == {"key", "content", "logits", "labels", "hidden"}


def kept(holding: str) -> list[Path]:
    """The files of the store that hold an observation (``logits``) or something derived from one (``value``)."""
    return [file for file in sorted(Path("kept").iterdir()) if holding in torch.load(file, weights_only=True)]


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
        torch.save({**values, holding: _Code()}, file)
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
