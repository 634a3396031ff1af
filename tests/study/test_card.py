"""``gkd card`` of a run: what it counts, what it compares, what it refuses. No time is compared with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import gkd_cli
import gkd_plugin
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.study.card import RunCard, make_card, write_numbers
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.deploy.cost.MOST", 3)
    monkeypatch.setattr("gkd_plugin.study.card.SAMPLE", 4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of two seeds, its student of three, and one without a teacher, of graphs, of pairs."""
    from torch_geometric.graphgym import register

    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patched:  # of the function's scope is the fixture of the toy's loader
        patched.setitem(register.loader_dict, "toy", toy.load)
        own = toy.values(folder / "results", model={"type": "gcn"}, optim={"max_epoch": 3})
        run(toy.merge(own, {"gnn": {"dim_inner": 16}}), name="teacher", repeat=3, quiet=True)
        taught = {"kd": {"preset": "soft_target", "teacher": "teacher"}, "gnn": {"layers_mp": 1}}
        run(toy.merge(own, taught), name="small", repeat=3, quiet=True)
        run(toy.values(folder / "results", optim={"max_epoch": 1}), name="alone", quiet=True)
        links = {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}}
        run(toy.values(folder / "results", **links, optim={"max_epoch": 1}), name="links", quiet=True)
    return folder / "results"


def test_student_and_teacher_stand_side_by_side(home: Path) -> None:
    card = make_card(home / "small")
    assert isinstance(card, RunCard) and card.teacher is not None
    assert card.student.parameters == 6 * 8 + 8 + 8 * 3 + 3
    assert card.teacher.parameters == 6 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3
    assert card.compression == card.teacher.parameters / card.student.parameters
    assert card.student.work.dense == 48 * (6 * 8 + 8 * 3) and card.student.bytes == 4 * card.student.parameters
    assert card.student.reach is not None and (card.student.reach.hops, card.student.reach.rim) == (3, True)
    assert card.student.latency["cpu"].count == 3 and card.student.node_latency["cpu"].count == 4
    assert card.student.peak["cpu"] > 0 and card.speed_up() > 0
    results = [json.loads((home / "small" / str(n) / "result.json").read_text()) for n in range(3)]
    assert card.student.tests == {r["seed"]: r["answers"]["s1"]["test"] for r in results}
    text = str(card)
    mean = sum(card.student.tests.values()) / 3
    for words in (f"{100 * mean:.2f}", "(3 seeds)", "small", "teacher / student", "1 thread", "student - teacher:"):
        assert words in text, words


def test_a_run_without_a_teacher_is_measured_alone_or_beside_another(home: Path) -> None:
    card = make_card(home / "alone")
    assert isinstance(card, RunCard) and card.teacher is None and card.compression != card.compression
    assert "no teacher: --teacher NAME" in str(card) and "teacher / student" not in str(card)
    for name in ("teacher", str(home / "teacher")):
        beside = make_card(home / "alone", name)
        assert isinstance(beside, RunCard) and beside.teacher is not None and beside.teacher.name == "teacher"
    (home / "rows.npz").write_bytes(b"")
    with pytest.raises(UserError, match="--teacher: .*rows.npz holds logits and no network"):
        make_card(home / "alone", "rows.npz")
    with pytest.raises(UserError, match="--teacher: there is no run 'teecher'. Searched"):
        make_card(home / "alone", "teecher")


def test_pairs_are_measured_as_a_whole(home: Path) -> None:
    card = make_card(home / "links" / "0")
    assert isinstance(card, RunCard) and "64 pairs" in card.graph and card.student.reach is None
    with pytest.raises(UserError, match="--teacher: links does not run on the data of small"):
        make_card(home / "small", str(home / "links"))


def test_a_teacher_that_is_gone_is_a_note(home: Path, tmp_path: Path) -> None:
    (home / "teacher").rename(tmp_path / "teacher")
    try:
        card = make_card(home / "small")
    finally:
        (tmp_path / "teacher").rename(home / "teacher")
    assert isinstance(card, RunCard) and card.teacher is None
    assert "its teacher 'teacher' was not measured: there is no run 'teacher'" in str(card)


def test_a_network_that_reads_all_nodes_says_so(home: Path) -> None:
    plain = {"gnn": {"batchnorm": True, "layers_mp": 1}, "gkd_model": {"batchnorm": "plain"}}
    run(toy.values(home, model={"type": "gcn"}, optim={"max_epoch": 1}, **plain), name="plain", quiet=True)
    card = gkd_plugin.card(home / "plain", teacher="alone")
    assert isinstance(card, RunCard) and card.student.reach is None and card.teacher is not None
    assert card.teacher.reach is not None
    assert "student: no neighbourhood gives the answers" in str(card) and "all" in str(card)


def test_numbers_are_written_once(home: Path, tmp_path: Path) -> None:
    words = ["card", str(home / "alone"), "--out", str(tmp_path / "card.json")]
    done = CliRunner().invoke(gkd_cli.main, words)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((tmp_path / "card.json").read_text())
    assert found["student"]["name"] == "alone" and found["compression"] is None and found["threads"] == 1
    done = CliRunner().invoke(gkd_cli.main, words)
    assert done.exit_code == 2 and "is there already. Nothing is overwritten" in done.output
    card = make_card(home / "alone")
    with pytest.raises(UserError, match="cannot be written"):
        write_numbers(card, tmp_path / "nowhere" / "card.json")


def test_on_a_gpu_both_devices_are_measured(home: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    card = make_card(home / "small")
    assert isinstance(card, RunCard) and set(card.student.latency) == {"cpu", "cuda"}
    assert card.student.peak["cuda"] > 0 and set(card.student.node_latency) == {"cpu", "cuda"}


def test_bad_input_is_one_message(home: Path, tmp_path: Path) -> None:
    for words, message in (
        ([str(tmp_path / "nowhere")], "there is no such folder"),
        ([str(tmp_path)], "contains no runs"),
        ([str(home / "small"), "--seed", "9"], "no finished seed 9"),
        ([str(home), "--seed", "0"], "--teacher and --seed belong to one run"),
    ):
        done = CliRunner().invoke(gkd_cli.main, ["card", *words])
        assert done.exit_code == 2 and message in done.output, done.output
