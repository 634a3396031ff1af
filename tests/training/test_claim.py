"""Whose a folder is: a run that never began holds no place, and ``--fresh`` moves what was there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch_geometric.graphgym import register
from yacs.config import CfgNode

from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.training.run_folder import list_active_terms, read_seed, seed_folders
from tests.running import OTHER, break_seeds, gkd, snapshot, stop_in
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


@pytest.mark.parametrize("error", [RuntimeError("a layer"), MemoryError(), RunFailed("no"), KeyboardInterrupt()])
def test_a_crash_before_the_first_epoch_holds_no_place(error: BaseException, tmp_path: Path) -> None:
    path = config(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        break_seeds(patch, error, (1,))
        with pytest.raises((RunFailed, KeyboardInterrupt)):
            run(path, quiet=True)
    mended = run(path, overrides=OTHER, quiet=True)
    assert len(mended.results) == 1
    assert yaml.safe_load((mended.folder / "config.yaml").read_text())["optim"]["base_lr"] == 0.1


def test_a_crash_after_the_first_epoch_holds_its_place(tmp_path: Path) -> None:
    path = config(tmp_path, train={"ckpt_period": 1})
    with pytest.MonkeyPatch.context() as patch:
        stop_in(1, patch, RuntimeError("a layer"))
        with pytest.raises(RunFailed, match="a layer"):
            run(path, quiet=True)
    with pytest.raises(UserError, match=r"another configuration.*--fresh"):
        run(path, overrides=OTHER, quiet=True)


@pytest.mark.parametrize(
    "left",
    [
        ["plan.yaml.part"],
        ["plan.yaml", "config.yaml.part"],
        ["plan.yaml", "config.yaml", "0/ckpt/epoch=0.pt.part"],
        ["plan.yaml", "config.yaml", "0/diagnostics.json", "0/failed.json"],
    ],
)
def test_leftovers_of_a_process_that_was_killed_are_no_content(left: list[str], tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    run(path, quiet=True)
    claims = {name: (folder / name).read_text() for name in ("plan.yaml", "config.yaml")}
    shutil.rmtree(folder)
    for name in left:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(claims.get(name, claims.get(name.removesuffix(".part"), "op")[:2]))
    report = run(path, overrides=OTHER, quiet=True)
    assert len(report.results) == 1 and not list(folder.rglob("*.part"))


def set_mine(node: CfgNode) -> None:
    node.mine = type(node)({"rate": 0.5})
    node.gnn.mine = 3


def test_keys_that_a_module_registers_later_lock_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, "big")
    path = config(tmp_path, "small", kd_response={"weight": 1})
    keys = ["kd.teacher_cfg", "big.yaml"]
    before = run(path, overrides=keys, quiet=True)
    monkeypatch.setitem(register.config_dict, "mine", set_mine)
    again = run(path, overrides=keys, quiet=True)
    assert again.results[0].seconds == before.results[0].seconds, "it is trained anew"
    other = run(path, overrides=keys, name="other", quiet=True)
    assert other.results[0].answers == before.results[0].answers
    with pytest.raises(UserError, match=r"another configuration \(gnn\.mine: was nothing, now 4\)"):
        run(path, overrides=[*keys, "gnn.mine", "4"], quiet=True)


def test_keys_that_nothing_registers_any_more_ask_for_their_module(tmp_path: Path) -> None:
    config(tmp_path, "big")
    path = config(tmp_path, "small", kd_response={"weight": 1})
    keys = ["kd.teacher_cfg", "big.yaml"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(register.config_dict, "mine", set_mine)
        run(path, overrides=keys, quiet=True)
    said = r"gnn\.mine: was 3, now unknown, mine\.rate: was 0\.5, now unknown; a module of yours .*: --import MODULE"
    with pytest.raises(UserError, match=rf"big was trained with a different configuration .*{said}"):
        run(path, overrides=keys, name="other", quiet=True)
    with pytest.raises(
        UserError, match=r"small contains a run of another configuration .*mine\.rate: was 0\.5, now unknown; a module"
    ):
        run(path, overrides=["kd.teacher", "big"], quiet=True)
    named = run(path, overrides=["kd.teacher", "big"], name="other", quiet=True)  # a network needs no key of the loop's
    assert named.results[0].teacher["name"] == "big"


FOREIGN = [
    "movie.mp4.part",
    "mine/0.part",
    "config.yaml",
    "config.yaml+plan.yaml",
    "config.yaml.part",
    "cohort.yaml",
    "plan.yaml",
    "diagnostics.json",
    "0/attention.json",
    "0/failed.json",
    "0/ckpt/epoch=3.pt.part",
    "0/train/events.out.tfevents.1",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_files_of_others_are_no_leftovers(foreign: str, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "study"
    for name in foreign.split("+"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("kd: {mine: 1}\n")
    before = snapshot(folder)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    assert snapshot(folder) == before and before


def test_empty_folders_and_links_of_others_are_left_alone(tmp_path: Path) -> None:
    folder, mine = tmp_path / "results" / "study", tmp_path / "mine"
    (folder / "figures").mkdir(parents=True)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    (folder / "figures").rmdir()
    mine.mkdir()
    (mine / "failed.json").write_text("mine")
    (folder / "0").symlink_to(mine)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    assert (folder / "0").is_symlink() and snapshot(mine) == {"failed.json": b"mine"}


@pytest.mark.parametrize("foreign", ["notes.txt", "0/notes.txt", "0/ckpt/best.pt.part", "figures", "0/link"])
def test_files_of_others_in_a_run_that_never_began_are_content(foreign: str, tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    with pytest.MonkeyPatch.context() as patch:
        break_seeds(patch, RuntimeError("a layer"), (1,))
        with pytest.raises(RunFailed):
            run(path, quiet=True)
    (folder / foreign).parent.mkdir(parents=True, exist_ok=True)
    if foreign == "figures":
        (folder / foreign).mkdir()
    elif foreign == "0/link":
        (folder / foreign).symlink_to(path)
    else:
        (folder / foreign).write_text("mine")
    before = sorted(str(path) for path in folder.rglob("*"))
    with pytest.raises(UserError, match="contains a run of another configuration"):
        run(path, overrides=OTHER, quiet=True)
    assert sorted(str(path) for path in folder.rglob("*")) == before
    assert len(run(path, quiet=True).results) == 1  # the same configuration goes on beside them


def test_a_mistake_that_shows_late_removes_nothing(tmp_path: Path) -> None:
    path, folder = config(tmp_path, train={"ckpt_period": 1}), tmp_path / "results" / "study"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(2, patch, UserError("a mistake"))
        with pytest.raises(UserError, match="a mistake"):
            run(path, quiet=True)
    assert {"0/train/stats.json", "0/ckpt/epoch=1.pt", "config.yaml"} <= snapshot(folder).keys()
    assert run(path, quiet=True).results[0].epochs == 4


# -- started anew -------------------------------------------------------------------------------------------------------


def test_fresh_keeps_what_was_there_under_a_dated_name(tmp_path: Path) -> None:
    path, results = config(tmp_path), tmp_path / "results"
    run(path, control=True, quiet=True)
    before = {name: snapshot(results / name) for name in ("study", "study-control")}
    for count in (1, 2):  # twice in one second, too
        done = gkd("--cfg", str(path), "--control", "--fresh", *OTHER)
        assert done.exit_code == 0 and "is kept in" in done.output
        for name, content in before.items():
            kept = [p for p in results.iterdir() if re.fullmatch(rf"{name}\.\d{{8}}-\d{{6}}(-\d)?", p.name)]
            assert len(kept) == count and content in [snapshot(folder) for folder in kept]
            new = yaml.safe_load((results / name / "config.yaml").read_text())
            assert new["optim"]["base_lr"] == 0.1


def test_fresh_without_a_run_is_a_plain_run_and_moves_nothing_of_others(tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    run(path, fresh=True, quiet=True)
    assert [path.name for path in folder.parent.iterdir()] == ["study"]
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="contains no run"):
        run(path, fresh=True, quiet=True)
    assert snapshot(folder) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("name", ["²", "--1", "٣", "1.5", "seed"])
def test_folders_that_only_look_like_a_seed_are_passed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "results" / "study" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty"):  # they are content of somebody's
        run(config(tmp_path), quiet=True)
    assert (read_seed(name), list(seed_folders(tmp_path / "results" / "study"))) == (None, [])


def test_folders_of_seeds_are_in_their_order(tmp_path: Path) -> None:
    for name in ("10", "-2", "0", "3", "agg"):
        (tmp_path / name).mkdir()
    assert [path.name for path in seed_folders(tmp_path)] == ["-2", "0", "3", "10"]


@pytest.mark.parametrize(
    ("plan", "active"),
    [
        ({}, []),
        ({"kd_response": {"weight": 0.0}, "kd_attention": {"dim": 4}}, []),
        ({"kd_response": {"weight": 0.5}, "kd": {"weight": 1}}, ["kd_response"]),
        ({"kd_auxiliary": {"weight": 0.0, "soft_weight": 1.0}}, ["kd_auxiliary"]),
        ({"kd_of_nobody_here": {"weight": 2.0}, "kd_feature": {"weight": None}}, ["kd_of_nobody_here"]),
    ],
)
def test_terms_with_a_weight_in_any_of_their_parts_are_active(plan: dict[str, Any], active: list[str]) -> None:
    assert list_active_terms(plan) == active
