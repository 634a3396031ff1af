"""``gkd run``: what it writes, what it skips, what it refuses."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch_geometric.graphgym.loader import create_loader

import gkd_plugin
from gkd_plugin import host
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import control_overrides, run
from gkd_plugin.config.load import read_config
from gkd_plugin.deploy.chosen import choose_seed
from gkd_plugin.errors import ConfigError, RunFailed, UserError
from gkd_plugin.models.sample import Sample
from gkd_plugin.training.seed_files import SINGLE
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import gkd, rows, snapshot, trained
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")

PEERS = {"kd": {"preset": "alignahead_pp", "students": 2}}


# -- what it writes ---------------------------------------------------------------------------------------------------


def test_folder_is_graphgyms(tmp_path: Path) -> None:
    report = run(config(tmp_path, **PEERS), repeat=2, quiet=True)
    folder = tmp_path / "results" / "study"
    assert report.folder == folder
    for seed in ("0", "1"):
        for split, count in (("train", 4), ("val", 4), ("test", 1)):
            found = rows(folder / seed, split)
            assert len(found) == count
            assert {"epoch", "loss", "lr", "params", "accuracy"} <= found[0].keys()
        lines = (folder / seed / "train/stats.json").read_text().splitlines()
        assert all({"eta", "time_iter"} <= json.loads(line).keys() for line in lines)
        assert not (folder / seed / "ckpt").exists()
    for split in ("train", "val", "test"):
        for name in ("stats.json", "best.json"):
            assert {"accuracy", "accuracy_std"} <= json.loads(
                (folder / "agg" / split / name).read_text().splitlines()[0]
            ).keys()
    assert {path.name for path in folder.iterdir()} == {"0", "1", "agg", "config.yaml", "plan.yaml"}


def test_result_says_what_the_rows_say(tmp_path: Path) -> None:
    (result,) = run(config(tmp_path, **PEERS), quiet=True).results
    seed = tmp_path / "results" / "study" / "0"
    written = json.loads((seed / "result.json").read_text())
    assert {"gkd_plugin", "torch", "torch-geometric", "python"} <= written["versions"].keys()
    assert (written["threads"], written["seed"]) == (1, 1)
    for number in (1, 2):
        column = [row[f"s{number}_accuracy"] for row in rows(seed, "val")]
        answer = result.answers[f"s{number}"]
        assert (answer.epoch, answer.val) == (column.index(max(column)), max(column))  # the first of equal ones
    (test,) = rows(seed, "test")
    assert test["epoch"] == result.answer.epoch
    assert test["accuracy"] == result.answer.test == result.answers["best"].test
    assert test["student"] == result.best_student
    assert result.answers["mean"].test == pytest.approx((test["s1_accuracy"] + test["s2_accuracy"]) / 2)
    assert test["ensemble_accuracy"] == result.answers["ensemble"].test


def test_the_plan_in_the_folder_is_the_plan(tmp_path: Path) -> None:
    path = config(tmp_path, **PEERS)
    run(path, quiet=True)
    written = yaml.safe_load((tmp_path / "results" / "study" / "plan.yaml").read_text())
    again = {key: content for key, content in yaml.safe_load(path.read_text()).items() if not key.startswith("kd")}
    plan = read_config({**again, **written}).plan
    assert plan.as_dict() == read_config(path).plan.as_dict()
    assert written["kd_structure"]["kernel"] == "laplacian"


@pytest.mark.parametrize("predict", ["best", "first"])
def test_the_loaded_student_gives_the_selected_scores(predict: str, tmp_path: Path) -> None:
    keys = {"preset": "alignahead_pp", "students": 2, "predict": predict}
    (result,) = run(config(tmp_path, kd=keys, gnn={"batchnorm": True}), quiet=True).results
    model = gkd_plugin.load_student(tmp_path / "results" / "study" / "0")
    number = 1 if predict == "first" else result.best_student
    assert not model.training
    accuracy = scores(model)
    assert accuracy["val"] == pytest.approx(result.answers[f"s{number}"].val, abs=1e-4)
    assert accuracy["test"] == pytest.approx(result.answer.test, abs=1e-4)
    other = 3 - number
    with pytest.raises(UserError, match=f"has no student {other}; it has: {number}"):
        load_student(tmp_path / "results" / "study" / "0", other)


def scores(model: torch.nn.Module) -> dict[str, float]:
    return {split: right(logits(model, split), split) for split in ("val", "test")}


def logits(model: Any, split: str) -> torch.Tensor:
    with host.scoped(model.kd_cfg), torch.no_grad():
        batch = next(iter(create_loader()[0]))
        batch.split = split  # the host's head would leave all other rows out
        return model(batch)[batch[f"{split}_mask"]]


def right(predicted: torch.Tensor, split: str) -> float:
    data = toy.community(0)
    return float((predicted.argmax(1) == data.y[data[f"{split}_mask"]]).float().mean())


def test_the_loaded_students_of_an_ensemble_give_its_scores(tmp_path: Path) -> None:
    keys = {"preset": "mutual", "students": 3, "predict": "ensemble"}
    (result,) = run(config(tmp_path, kd=keys, optim={"max_epoch": 12}), quiet=True).results
    folder = tmp_path / "results" / "study" / "0"
    epochs = {result.answers[name].epoch for name in ("s1", "s2", "s3", "ensemble")}
    assert len(epochs) > 1, "choose another length: all answers were selected at one epoch"
    models = [load_student(folder, number) for number in (1, 2, 3)]
    for split, expected in (("val", result.answer.val), ("test", result.answer.test)):
        mean = torch.stack([logits(model, split).softmax(1) for model in models]).mean(0)
        assert right(mean, split) == pytest.approx(expected, abs=1e-4)
    (test,) = rows(folder, "test")
    assert (test["accuracy"], test["student"]) == (result.answer.test, 0.0)


def test_the_best_student_of_an_ensemble_alone_has_the_weights_of_its_scores(tmp_path: Path) -> None:
    """It is what is exported; the ensemble's own parts are those of another epoch."""
    keys = {"preset": "mutual", "students": 3, "predict": "ensemble"}
    (result,) = run(config(tmp_path, kd=keys, optim={"max_epoch": 12}), quiet=True).results
    own = result.answers[f"s{result.best_student}"]
    assert own.epoch != result.answer.epoch, "choose another length: both were selected at one epoch"
    folder = tmp_path / "results" / "study"
    found = scores(load_student(folder / "0"))
    assert (found["val"], found["test"]) == pytest.approx((own.val, own.test), abs=1e-4)
    assert choose_seed(folder).score == own and choose_seed(folder).tests() == [own.test]
    (folder / "0" / SINGLE).unlink()  # as earlier versions left it
    told = json.loads((folder / "0" / "result.json").read_text())
    del told["files"][SINGLE]
    (folder / "0" / "result.json").write_text(json.dumps(told))
    assert not choose_seed(folder).is_known and math.isnan(choose_seed(folder).score.test)


def test_load_student_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no finished run.*Name the folder of a run"):
        load_student(tmp_path)
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        load_student(tmp_path / "nowhere")
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match="not a result of gkd_plugin"):
        load_student(tmp_path)


def test_a_plain_graphgym_yaml_runs_as_supervised(tmp_path: Path) -> None:
    plain = {key: content for key, content in toy.values(tmp_path / "results").items()}
    plain["train"] = {"eval_period": 1}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(plain))
    (result,) = run(path, quiet=True).results
    again = run(config(tmp_path, "named", kd={"preset": "supervised"}), quiet=True).results[0]
    assert result.answers == again.answers
    assert result.parameters == again.parameters and len(result.parameters) == 1
    plan = yaml.safe_load((tmp_path / "results" / "plain" / "plan.yaml").read_text())
    assert plan["kd"]["students"] == 1


# -- repeated, enlarged, refused ----------------------------------------------------------------------------------------


def test_finished_seeds_are_skipped_and_a_larger_repeat_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = trained(monkeypatch)
    path = config(tmp_path)
    first = run(path, repeat=2, quiet=True)
    folder = tmp_path / "results" / "study"
    kept = {name: text for name, text in snapshot(folder).items() if name[0].isdigit()}
    second = run(path, repeat=3, quiet=True)
    assert seeds == ["study/0", "study/1", "study/2"]
    assert second.results[:2] == first.results and len(second.results) == 3
    assert kept.items() <= snapshot(folder).items()
    scores = [result.answer.test for result in second.results]
    (best,) = [json.loads(line) for line in (folder / "agg" / "test" / "best.json").read_text().splitlines()]
    assert best["accuracy"] == pytest.approx(sum(scores) / 3, abs=1e-4)
    assert run(path, quiet=True).results == first.results[:1]  # asking for less takes nothing away
    assert seeds == ["study/0", "study/1", "study/2"]
    assert (folder / "2" / "result.json").is_file()


def test_a_finished_run_says_that_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path)
    run(path)
    assert "finished" not in capsys.readouterr().err
    run(path)
    (line,) = capsys.readouterr().err.splitlines()
    folder = tmp_path / "results" / "study"
    date = datetime.fromisoformat(json.loads((folder / "0/result.json").read_text())["date"]).astimezone()
    assert line.startswith(
        f"{folder}: finished already ({date:%Y-%m-%d %H:%M}); nothing is trained. --fresh trains anew"
    )
    run(path, repeat=3)
    assert f"{folder}: 1 of 3 seeds finished already (" in capsys.readouterr().err
    run(path, repeat=3, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_result_without_a_date_has_that_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path)
    run(path, quiet=True)
    file = tmp_path / "results" / "study" / "0" / "result.json"
    values = json.loads(file.read_text())
    del values["date"]
    file.write_text(json.dumps(values))
    os.utime(file, (86400 * 365, 86400 * 365))
    run(path)
    assert "finished already (1971-01-01" in capsys.readouterr().err


def test_another_configuration_in_the_folder_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path)
    run(path, quiet=True)
    before = snapshot(tmp_path / "results")
    with pytest.raises(UserError, match=r"another configuration \(optim\.base_lr: was 0\.05, now 0\.1\).*--name"):
        run(path, overrides=["optim.base_lr", "0.1"], quiet=True)
    assert snapshot(tmp_path / "results") == before
    assert run(path, overrides=["optim.base_lr", "0.1"], name="other", quiet=True).folder.name == "other"
    with pytest.raises(UserError, match=r"kd_structure\.weight"):
        run(config(tmp_path, **PEERS, kd_structure={"weight": 3}), quiet=True)


@pytest.mark.parametrize("content", ["a file of mine", "optim: [", "- 1\n"])
def test_a_folder_that_is_not_ours_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "study"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(content)
    (folder / "plan.yaml").write_text(content)
    (folder / "thesis.tex").write_text("\\dots")
    before = snapshot(folder)
    with pytest.raises(UserError, match="--name"):
        run(config(tmp_path), quiet=True)
    assert snapshot(folder) == before


def test_a_folder_of_the_hosts_and_a_file_in_the_way_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "study"
    (folder / "0" / "train").mkdir(parents=True)
    (folder / "config.yaml").write_text("optim: {}\n")
    with pytest.raises(UserError, match="contains no run of gkd_plugin.*--name.*Nothing was changed"):
        run(config(tmp_path), quiet=True)
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(UserError, match="--name"):
        run(config(tmp_path), quiet=True)
    assert folder.read_text() == "a file"


def test_a_changed_cohort_file_is_another_configuration(tmp_path: Path) -> None:
    member = tmp_path / "wide.yaml"
    member.write_text("gnn: {dim_inner: 16}\n")
    path = config(tmp_path, kd={"preset": "mutual", "cohort": "wide"})
    run(path, quiet=True)
    member.write_text("gnn: {dim_inner: 24}\n")
    with pytest.raises(UserError, match=r"another configuration \(student 2 gnn\.dim_inner: was 16, now 24\)"):
        run(path, repeat=2, quiet=True)


@pytest.mark.parametrize("wrong", [{"dataset": {"name": "no_masks"}}, {"metric_best": "auc"}], ids=["data", "metric"])
def test_a_configuration_that_was_refused_holds_no_place(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(config(tmp_path, **wrong), quiet=True)
    report = run(config(tmp_path), quiet=True)  # mended, under the same name
    assert len(report.results) == 1
    assert yaml.safe_load((report.folder / "config.yaml").read_text())["dataset"]["name"] == "nodes"


def test_overrides_reach_the_run(tmp_path: Path) -> None:
    words = ["optim.max_epoch", "2", "kd.preset", "mutual", "kd.students", "3", "gnn.dropout", "0"]
    report = run(config(tmp_path), overrides=words, quiet=True)
    assert report.plan.students == 3 and report.results[0].epochs == 2
    written = yaml.safe_load((report.folder / "config.yaml").read_text())
    assert written["gnn"]["dropout"] == 0.0
    with pytest.raises(ConfigError, match=r"optim\.max_epohc"):
        run(config(tmp_path), overrides=["optim.max_epohc", "2"], quiet=True)


def test_seeds_beyond_the_largest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--repeat 3: seed 4294967294 \+ 3 is above 4294967295"):
        run(toy.values(tmp_path, seed=2**32 - 2), repeat=3, quiet=True)
    assert not list(tmp_path.iterdir())


def test_repeat_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--repeat 0"):
        run(config(tmp_path), repeat=0, quiet=True)


# -- the control --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups",
    [
        PEERS,
        {"kd": {"preset": "mutual", "students": 3, "predict": "ensemble"}},
        {"kd": {"preset": "byot"}},
        {"kd": {"label_weight": 0}, "kd_response": {"weight": 1}},
        {"gnn": {"layer_type": "aux_gcnconv"}},
        {"gnn": {"layer_type": "aux_gcnconv"}, "kd": {"preset": "alignahead"}},
    ],
    ids=["alignahead_pp", "mutual", "byot", "unlabelled", "marked", "marked_peers"],
)
def test_the_control_is_the_same_cohort_without_distillation(groups: dict[str, Any], tmp_path: Path) -> None:
    path = config(tmp_path, **groups)
    plan = read_config(path).plan
    control = read_config(path, control_overrides(plan)).plan
    assert plan.active and not control.active
    off = {"kd.label_weight": 1.0} | {
        f"kd_{group.name}.{part.weight}": 0.0 for group in plan.groups.values() for part in group.parts if group.named
    }
    expected = plan.as_dict()
    for key, value in off.items():
        group, name = key.split(".")
        expected[group][name] = value
    assert control.as_dict() == expected
    assert (control.students, control["predict"], control["label_weight"]) == (plan.students, plan["predict"], 1.0)


def test_control_runs_beside_and_the_difference_is_paired(tmp_path: Path) -> None:
    more = {"optim": {"max_epoch": 12}}
    report = run(config(tmp_path, **PEERS, **more), repeat=3, control=True, quiet=True)
    assert report.control is not None and report.control.folder.name == "study-control"
    gaps = [
        a.answers["mean"].test - b.answers["mean"].test
        for a, b in zip(report.results, report.control.results, strict=True)
    ]
    paired = report.difference("mean")
    assert paired.mean == pytest.approx(sum(gaps) / 3)
    spread = math.sqrt(sum((gap - paired.mean) ** 2 for gap in gaps) / 2 / 3)
    assert spread > 0, "choose another length: all differences are equal"
    assert paired.high - paired.mean == pytest.approx(4.302653 * spread)  # t(0.975, 2)
    # at weight 0 nobody listens: student 1 is the single supervised run
    single = run(config(tmp_path, "single", **more), repeat=3, quiet=True)
    assert [r.answers["s1"] for r in report.control.results] == [r.answers["s1"] for r in single.results]
    text = str(report)
    assert "paired difference" in text and str(report.folder) in text and "mean over students" in text


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "too long"),
        ("a/" * 3000, "too long"),
        ("afile/x", "afile is a file"),
        ("afile", "afile is a file"),
        ("a\0b", "NUL character"),
        ("../x", "leads out of"),
        ("x/../..", "leads out of"),
        (".", "leads out of"),
        ("/gkd-abs", "leads out of"),
        ("locked", r"\.locked\.lock is a folder"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--control"]])
def test_a_name_that_cannot_be_a_folder_is_one_message(words: list[str], name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "results" / ".locked.lock").mkdir(parents=True)
    (tmp_path / "results" / "afile").write_text("mine")
    path = config(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    done = gkd("--cfg", str(path), "--name", name, *words)
    assert done.exit_code == 2, done.output
    assert re.search(said, done.output) and "Traceback" not in done.output and len(done.output) < 600
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_an_out_dir_that_is_a_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    done = gkd("--cfg", str(config(tmp_path)))
    assert done.exit_code == 2 and "results is a file" in done.output


# -- what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_diverged_seed_is_recorded_and_the_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, **PEERS)
    plain = Trainer.run

    def diverging(self: Trainer, seed: int) -> Any:
        if seed == 2:
            for group in self.students[1].optimizer.param_groups:
                group["lr"] = 1e30
        return plain(self, seed)

    monkeypatch.setattr(Trainer, "run", diverging)
    report = run(path, repeat=3, quiet=True)
    assert [result.seed for result in report.results] == [1, 3]
    assert list(report.failures) == [2]
    assert "epoch" in report.failures[2] and "student" in report.failures[2] and "kd_" in report.failures[2]
    folder = tmp_path / "results" / "study"
    assert json.loads((folder / "1" / "failed.json").read_text())["error"] == report.failures[2]
    assert (folder / "1" / "failed" / "train" / "stats.json").is_file()
    (best,) = [json.loads(line) for line in (folder / "agg" / "test" / "best.json").read_text().splitlines()]
    scores = [result.answer.test for result in report.results]
    assert best["accuracy"] == pytest.approx(sum(scores) / 2, abs=1e-4)
    with host.scoped(read_config(path).cfg):
        host.cfg.tensorboard_agg = False
        from torch_geometric.graphgym.utils.agg_runs import agg_runs

        agg_runs(str(folder), "accuracy")  # the host's own, on the rest
    assert "seed 2 failed" in str(report)
    monkeypatch.setattr(Trainer, "run", plain)
    again = run(path, repeat=3, quiet=True)  # the failed seed is tried again
    assert not again.failures and len(again.results) == 3
    assert not (folder / "1" / "failed.json").exists()


def test_a_learning_rate_out_of_hand_names_epoch_student_and_term(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"seed 1: epoch 1, student 1: task loss is not finite.*base_lr"):
        run(config(tmp_path), overrides=["optim.base_lr", "1e30"], quiet=True)
    failed = json.loads((tmp_path / "results" / "study" / "0" / "failed.json").read_text())
    assert "epoch 1, student 1" in failed["error"]


@pytest.mark.parametrize("name", ["no_validation", "no_masks"])
def test_data_without_validation_split_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no .*val_mask.*split"):
        run(config(tmp_path, dataset={"name": name}), quiet=True)


@pytest.mark.parametrize("group", ["kd_response", "kd_feature"])
def test_unlabelled_nodes_that_are_not_there_are_said_before_training(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule would ask for them only in epoch 3."""
    keys = {"weight": 1.0, "source": "peers", "nodes": "unlabeled", "schedule": "warmup_3"}
    path = config(tmp_path, kd={"students": 2}, **{group: keys})
    monkeypatch.setattr(Sample, "mask", lambda self, split: torch.ones(self.batch.num_nodes, dtype=torch.bool))
    with pytest.raises(UserError, match=f"{group}.nodes: unlabeled, but all .* nodes are in the training mask"):
        run(path, quiet=True)
    assert not (tmp_path / "results" / "study").exists()


def test_missing_and_damaged_data(tmp_path: Path, data_sets: Any) -> None:
    cora = {"format": "PyG", "name": "Cora"}
    shutil.copytree(data_sets("Cora") / "Cora", tmp_path / "damaged" / "Cora")
    for file in (tmp_path / "damaged").rglob("*"):
        if file.name.endswith(".allx"):
            file.write_bytes(file.read_bytes()[:50])
        if "processed" in file.parts and file.is_file():
            file.unlink()
    with pytest.raises(UserError, match=r"'Cora' in .*damaged.* cannot be read"):
        run(config(tmp_path, dataset={**cora, "dir": str(tmp_path / "damaged")}), quiet=True)


def test_what_a_person_reads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No log lines of the host's, no warnings of libraries; what is hardly meant comes before the training."""
    dataset = {"name": "binary"}  # where some class is never predicted at first
    run(config(tmp_path, dataset=dataset, gnn={"layers_post_mp": 0}, train={"eval_period": 2}))
    said = capfd.readouterr().err.splitlines()
    assert said[0].startswith("warning: train.eval_period 2")
    assert said[-1].startswith("study seed 1 (1/1): 4/4 epochs, validation 0.") and len(said) == 2


def test_reports_print_names_with_brackets_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    report = run(config(tmp_path), name="lr[0.1]", quiet=True)
    assert "lr[0.1]" in str(report).splitlines()[1] and str(report.folder) in str(report)


# -- full and protected disks -------------------------------------------------------------------------------------------


def full_after(count: int, patch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
    """The disk takes so many more files."""
    left, plain = [count], os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        plain(descriptor)

    patch.setattr(os, "fsync", fsync)


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("count", range(12))
def test_a_full_disk_at_any_file_loses_nothing(count: int, tmp_path: Path) -> None:
    """plan, config, then for each of two seeds a checkpoint, the student, its cfg, the result; then the tables."""
    path = config(tmp_path, train={"ckpt_period": 2})
    (tmp_path / "whole").mkdir()
    whole = run(config(tmp_path / "whole", train={"ckpt_period": 2}), repeat=2, quiet=True)
    folder = tmp_path / "results" / "study"
    with pytest.MonkeyPatch.context() as patch:
        full_after(count, patch)
        try:
            said = "\n".join(run(path, repeat=2, quiet=True).failures.values())
        except RunFailed as error:
            said = str(error)
    assert "No space left on device" in said and "same command again" in said
    assert partial_files(tmp_path) == []
    after = run(path, repeat=2, quiet=True)
    assert [r.answers for r in after.results] == [r.answers for r in whole.results]
    for seed in ("0", "1"):
        for split in ("train", "val", "test"):
            epochs = [row["epoch"] for row in rows(folder / seed, split)]
            assert epochs == [row["epoch"] for row in rows(whole.folder / seed, split)]
    assert json.loads((folder / "agg/test/best.json").read_text())["accuracy"] == pytest.approx(
        json.loads((whole.folder / "agg/test/best.json").read_text())["accuracy"]
    )


def test_a_row_torn_by_a_full_disk(tmp_path: Path) -> None:
    path = config(tmp_path, train={"ckpt_period": 1}, optim={"max_epoch": 6})
    with pytest.MonkeyPatch.context() as patch:
        written = [0]

        def torn(row: dict[str, Any], name: str) -> None:
            written[0] += 1
            text = json.dumps(row) + "\n"
            with open(name, "a") as file:
                file.write(text if written[0] < 8 else text[:20])
            if written[0] >= 8:
                raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("torch_geometric.graphgym.logger.dict_to_json", torn)
        with pytest.raises(RunFailed, match="No space left on device"):
            run(path, quiet=True)
    (result,) = run(path, quiet=True).results
    folder = tmp_path / "results" / "study" / "0"
    assert [row["epoch"] for row in rows(folder, "train")] == list(range(6))
    assert [row["epoch"] for row in rows(folder, "val")] == list(range(6))
    (tmp_path / "whole").mkdir()
    whole = run(config(tmp_path / "whole", train={"ckpt_period": 1}, optim={"max_epoch": 6}), quiet=True)
    assert result.answers == whole.results[0].answers


def test_the_first_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = trained(monkeypatch)
    full_after(3, monkeypatch)
    with pytest.raises(RunFailed):
        run(config(tmp_path), repeat=5, quiet=True)
    assert seeds == ["study/0"]  # the others would only be trained in vain


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_protected_folder(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    plain = Path.mkdir

    def refuse(self: Path, *args: Any, **options: Any) -> None:
        if "results" in self.parts:
            raise OSError(code, os.strerror(code), str(self))
        plain(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunFailed, match=r"results.*: .*(Read-only|Permission denied)"):
        run(path, quiet=True)


def test_a_finished_run_is_read_without_writing_its_configuration(tmp_path: Path) -> None:
    path = config(tmp_path)
    first = run(path, quiet=True)
    times = {name: (first.folder / name).stat().st_mtime_ns for name in ("config.yaml", "plan.yaml", "0/result.json")}
    run(path, quiet=True)
    assert times == {name: (first.folder / name).stat().st_mtime_ns for name in times}


def test_without_checkpoints_an_interrupted_seed_starts_again(tmp_path: Path) -> None:
    path = config(tmp_path, train={"enable_ckpt": False})
    with pytest.MonkeyPatch.context() as patch:
        plain = Trainer._evaluate

        def stopping(self: Trainer, epoch: int, *rest: Any) -> None:
            if epoch == 2:
                raise KeyboardInterrupt
            plain(self, epoch, *rest)

        patch.setattr(Trainer, "_evaluate", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(path, quiet=True)
    run(path, quiet=True)
    folder = tmp_path / "results" / "study" / "0"
    for split in ("train", "val"):
        assert [row["epoch"] for row in rows(folder, split)] == [0, 1, 2, 3]
