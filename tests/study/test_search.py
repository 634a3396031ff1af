"""``gkd search``: on an engine that only pretends to train, and for real, killed and continued."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import gkd_cli
from gkd_plugin.errors import UserError
from gkd_plugin.study import search_loop
from gkd_plugin.study.execute import Resources
from gkd_plugin.study.grid_file import parse_grid
from gkd_plugin.study.halving import make_steps
from gkd_plugin.study.job import Job
from gkd_plugin.study.ledger import DONE, FAILED, Entry, Ledger
from gkd_plugin.study.proposals import Proposals
from gkd_plugin.study.search import run_search
from gkd_plugin.study.search_loop import Search
from gkd_plugin.study.space import Space
from gkd_plugin.study.study import Study
from tests import toy
from tests.conftest import ROOT
from tests.running import trained

TEXT = """\
kd.preset preset [supervised, oc, mutual]
gnn.dim_inner width 4~32
when preset mutual
    kd_response.temperature temperature [1, 4]
"""
STUDY = Path("results/base_search_space")


class Pretender:
    """An engine that scores jobs by a function, in random order; results are files without content."""

    def __init__(self, rate: Callable[[dict[str, Any]], Any], slots: int, stop_after: int | None = None) -> None:
        self.rate, self.slots, self.left = rate, slots, stop_after
        self.jobs: list[Job] = []
        self.trained: list[str] = []
        self.most = 0
        self.random = random.Random(0)

    @property
    def pending(self) -> int:
        return len(self.jobs)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.most = max(self.most, len(self.jobs))
        self._begin(job)

    def next(self) -> Entry:
        job = self.jobs.pop(self.random.randrange(len(self.jobs)))
        if self.left is not None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        self.trained.append(job.name)
        val = self.rate(dict(job.values))
        begun = Ledger(Path(job.ledger)).read(job.name)
        if val is None:
            entry = begun.end(FAILED, "no such luck")
        else:
            entry = begun.end(DONE, metric="accuracy", better=True, val=val)
            for number in range(job.repeat):
                (job.folder / str(number)).mkdir(parents=True)
                (job.folder / str(number) / "result.json").touch()
        Ledger(Path(job.ledger)).write(entry)
        return entry

    def _begin(self, job: Job) -> None:
        Ledger(Path(job.ledger)).write(Entry(job.name).begin(job.session, job.digest, job.repeat))


def rate(values: dict[str, Any]) -> float:
    """Width 16 is best, and ``oc``; more epochs add a little."""
    preset = {"oc": 0.1}.get(values["kd"].get("preset"), 0.0)
    return 0.8 - abs(values["gnn"]["dim_inner"] - 16) / 100 + preset + values["optim"]["max_epoch"] / 1000


class Case:
    """A search over the toy base on an engine that pretends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: str = TEXT, method: str = "tpe", **base: Any) -> None:
        self.monkeypatch, self.method = monkeypatch, method
        self.base = toy.values(Path("results"), **{"optim": {"max_epoch": 27}, "kd": {"students": 2}, **base})
        Path("base.yaml").write_text(yaml.safe_dump(self.base))
        self.grid = parse_grid(text, Path("space.txt"), ranges=True)

    def run(
        self,
        runs: int | None,
        engine: Pretender,
        hours: float | None = None,
        controls: bool = False,
        retry_failed: bool = False,
    ) -> Search:
        @contextlib.contextmanager
        def open_engine(*_: Any) -> Iterator[Pretender]:
            yield engine

        self.monkeypatch.setattr(search_loop, "open_engine", open_engine)
        study = Study(
            "made",
            Path("results"),
            "search",
            {"file": "base.yaml", "values": self.base},
            {"file": "space.txt", "text": self.grid.text},
            self.grid.dimensions,
            1,
            1,
        )
        space = Space(self.base, "base", self.grid)
        study.beside.mkdir(parents=True, exist_ok=True)
        steps = make_steps(self.method == "halving", 27, runs, ())
        proposals = Proposals(study.beside, space, self.method)
        self.search = Search(study, space, proposals, Path("base.yaml"), steps, Resources(workers=0))
        self.search.run(runs, hours, controls, retry_failed, quiet=True)
        return self.search


@pytest.fixture
def case(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Case]:
    return lambda *args, **more: Case(monkeypatch, *args, **more)


def states() -> Counter[str]:
    files = list(Path("results/made.gkd/ledger").glob("*.json"))
    return Counter(json.loads(path.read_text())["state"] for path in files)


def test_several_at_a_time_and_each_once(case: Callable[..., Case]) -> None:
    engine = Pretender(rate, slots=3)
    search = case().run(20, engine)
    assert engine.most == 3 and len(engine.trained) == len(set(engine.trained)) == 20
    assert states() == {"done": 20}
    best = max(search.candidates.values(), key=lambda each: each.scores[0])
    assert best.point.choices["preset"] == "oc" and abs(best.point.choices["width"] - 16) <= 4
    told = {trial.user_attrs["choices"]["width"]: trial.value for trial in search.proposals._study.trials}
    assert all(value is not None for value in told.values())


def test_interrupted_runs_go_on_and_the_number_is_the_total(case: Callable[..., Case]) -> None:
    first = Pretender(rate, slots=2, stop_after=5)
    made = case()
    with pytest.raises(KeyboardInterrupt):
        made.run(9, first)
    assert states() == {"done": 5, "interrupted": 2}
    second = Pretender(rate, slots=2)
    made.run(9, second)
    assert states() == {"done": 9} and not set(first.trained) & set(second.trained)
    begun = {path.stem for path in Path("results/made.gkd/ledger").glob("*.json")}
    assert set(first.trained) | set(second.trained) == begun
    third = Pretender(rate, slots=2)
    made.run(12, third)
    assert len(third.trained) == 3
    assert [trial.state.name for trial in made.search.proposals._study.trials].count("RUNNING") == 0


def test_failures_are_no_scores_and_are_tried_again_on_demand(case: Callable[..., Case]) -> None:
    made = case()
    made.run(8, Pretender(lambda values: None if values["gnn"]["dim_inner"] % 2 else rate(values), slots=1))
    failed = states()["failed"]
    assert 0 < failed < 8 and states()["done"] == 8 - failed
    values = {t.number: t.value for t in made.search.proposals._study.trials}
    assert list(values.values()).count(None) == failed
    again = Pretender(rate, slots=1)
    made.run(8, again)
    assert not again.trained
    made.run(8, again, retry_failed=True)
    assert len(again.trained) == failed and states() == {"done": 8}
    assert [t.state.name for t in made.search.proposals._study.trials].count("COMPLETE") == 8


def test_a_small_space_ends_when_it_is_exhausted(case: Callable[..., Case]) -> None:
    engine = Pretender(rate, slots=2)
    search = case("kd.preset preset [supervised, oc]\ngnn.dim_inner width [8, 16]\n").run(30, engine)
    assert len(engine.trained) == 4
    assert search.notes == ["the search ended after 4 points: 100 proposals in a row repeated earlier points"]


def test_a_point_that_is_no_configuration_fails_alone(case: Callable[..., Case]) -> None:
    made = case("gnn.dim_inner width [8, 16]\ngnn.dropout dropout [0.0, 0.5, 1.0]\n")
    engine = Pretender(rate, slots=1)
    for _ in range(2):
        made.run(6, engine)
        assert len(engine.trained) == 4 and states() == {"done": 4, "failed": 2}
    failed = [entry for entry in Ledger(Path("results/made.gkd/ledger")).entries() if entry.state == FAILED]
    assert all("gnn.dropout" in str(entry.reason) for entry in failed)


def test_halving_trains_a_third_longer(case: Callable[..., Case]) -> None:
    made = case(method="halving")
    first = Pretender(rate, slots=2, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        made.run(18, first)
    second = Pretender(rate, slots=2)
    search = made.run(18, second)
    names = [*first.trained, *second.trained]
    lengths = Counter(name.partition("-epochs=")[2] for name in names)
    assert len(names) == len(set(names)) and lengths["3"] == 18
    assert lengths["9"] >= 6 and 2 <= lengths[""] <= 4
    assert {path.name for path in Path("results/made").iterdir()} == {name for name in names if "epochs" not in name}
    epochs = {point.name: point.epochs for point in search.study.points}
    assert {str(epochs[name] or "") for name in names} == {"3", "9", ""}
    assert not search.notes
    ranked = sorted((each for each in search.candidates.values()), key=lambda each: -each.scores[0])
    assert ranked[0].step == 2, "the best at the first step has all epochs"
    assert made.run(18, Pretender(rate, slots=2)).candidates.keys() == search.candidates.keys()


def test_no_run_begins_after_the_time(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(search_loop.time, "monotonic", lambda: now[0])

    def slow(values: dict[str, Any]) -> float:
        now[0] += 600
        return rate(values)

    engine = Pretender(slow, slots=2)
    case().run(None, engine, hours=0.5)
    assert len(engine.trained) == 4, "two begin at 0, one at 10 and one at 20 minutes"


def test_controls_of_the_best_and_of_who_shares_them(case: Callable[..., Case]) -> None:
    made = case(TEXT.replace("4~32", "[8, 16]"))
    engine = Pretender(rate, slots=2)
    search = made.run(8, engine, controls=True)
    points = {point.name: point for point in search.study.points}
    distilling = [p for p in points.values() if p.role == "point" and p.choices["preset"] != "supervised"]
    best = sorted(distilling, key=lambda p: -rate(dict(p.values)))
    assert best[0].control in points
    supervised = {p.choices["width"]: p.name for p in points.values() if p.choices.get("preset") == "supervised"}
    for point in distilling:
        if point.choices["preset"] == "oc":  # in the same order of updates: the searched point serves
            assert point.control == supervised.get(point.choices["width"], point.control)
    controls = [p.name for p in points.values() if p.role == "control"]
    assert set(controls) <= set(engine.trained)
    assert {p.control for p in distilling if p.control} <= points.keys()
    made.run(8, engine, controls=True)
    assert len(engine.trained) == len(set(engine.trained))


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(work_folder: Path) -> Path:
    Path("space.txt").write_text(TEXT)
    path = Path("base.yaml")
    path.write_text(yaml.safe_dump(toy.values(Path("results"), optim={"max_epoch": 2}, kd={"students": 2})))
    return path


def gkd(*words: str) -> Result:
    options = ["--config", "base.yaml", "--space", "space.txt", "--workers", "0", "--repeat", "1"]
    return CliRunner().invoke(gkd_cli.main, ["search", *options, *words])


def test_a_search_is_a_study(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = trained(monkeypatch)
    done = gkd("--runs", "3")
    assert done.exit_code == 0, done.output
    said = json.loads(Path(f"{STUDY}.gkd/study.json").read_text())
    assert said["kind"] == "search" and said["search"] == {"method": "tpe"}
    points = [point["name"] for point in said["points"] if point["role"] == "point"]
    assert len(points) == 3 and {path.name for path in STUDY.iterdir()} == {*points, "agg"}
    assert Path(f"{STUDY}.gkd/report.html").is_file() and "by validation" in done.output
    begun.clear()
    assert gkd("--runs", "3").exit_code == 0 and not begun
    assert gkd("--runs", "4", "--no-controls").exit_code == 0 and len(begun) == 1
    shown = CliRunner().invoke(gkd_cli.main, ["status", str(STUDY)]).output
    assert "(search, begun" in shown
    for words, change in (
        (("--method", "random"), "--method was tpe, now random"),
        (("--repeat", "2"), "--repeat was 1, now 2"),
        (("optim.base_lr", "0.5"), "optim.base_lr of the base was"),
    ):
        changed = gkd("--runs", "4", *words)
        assert changed.exit_code == 2 and change in changed.output and len(begun) == 1
    Path("space.txt").write_text(TEXT.replace("4~32", "4~64"))
    changed = gkd("--runs", "5")
    assert changed.exit_code == 2 and "width: was gnn.dim_inner 4~32, now gnn.dim_inner 4~64" in changed.output


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (TEXT, (), "--runs N, --hours H, or both"),
        (TEXT, ("--runs", "0"), "--runs"),
        (TEXT, ("--hours", "0"), "--hours"),
        (TEXT, ("--runs", "3", "--method", "grid"), "--method"),
        (TEXT, ("--runs", "3", "--name", "../x"), "is not the name of a study"),
        (TEXT, ("--runs", "3", "--method", "halving"), "that is 2"),
        ("gnn.dim_inner width 8\n", ("--runs", "3"), "a single point"),
        ("gnn.dim_inner width 0~8\n", ("--runs", "3"), "gnn.dim_inner"),
        ("gnn.dropout drop 0~1.0\n", ("--runs", "3"), "gnn.dropout"),
        ("kd.preset preset [mutual, nothing]\n", ("--runs", "3"), "nothing"),
        ("optim.base_lr lr 0~0.1 log\n", ("--runs", "3"), "Begin above 0"),
        ("", ("--runs", "3"), "has no rows"),
    ],
)
def test_a_mistake_is_one_message(text: str, words: tuple[str, ...], said: str, base: Path) -> None:
    Path("space.txt").write_text(text)
    done = gkd(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert said in done.output and not Path("results").exists()


def test_a_grid_is_not_continued_by_a_search_and_python_calls_are_checked(base: Path) -> None:
    for values in ({"runs": 0}, {"runs": 3, "repeat": 0}, {"hours": -1.0}, {"runs": 3, "method": "grid"}, {}):
        with pytest.raises(UserError):
            run_search(base, "space.txt", **values)  # type: ignore[arg-type]
    Path("grid.txt").write_text("gnn.dim_inner width [8]\n")
    words = ["grid", "--config", "base.yaml", "--grid", "grid.txt", "--workers", "0", "--repeat", "1", "--name", "one"]
    assert CliRunner().invoke(gkd_cli.main, words).exit_code == 0
    done = gkd("--runs", "3", "--name", "one")
    assert done.exit_code == 2 and "holds a grid, and this is a search" in done.output


def test_teachers_are_trained_once_beside_the_study(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wide.yaml").write_text(yaml.safe_dump(toy.values(optim={"max_epoch": 2}, gnn={"dim_inner": 32})))
    Path("space.txt").write_text(
        "kd.preset preset soft_target\nkd.teacher_cfg teacher wide.yaml\nkd.students students 1\nkd_response.weight weight 0.1~1\n"
    )
    begun = trained(monkeypatch)
    done = gkd("--runs", "2", "--no-controls")
    assert done.exit_code == 0, done.output
    assert begun[0] == "wide/0" and begun.count("wide/0") == 1 and len(begun) == 3
    assert re.findall(r"^(\d/\d) ", done.stderr, re.MULTILINE) == ["1/3", "2/3", "3/3"]
    assert Path("results/wide/0/result.json").is_file()


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "space.txt").write_text(TEXT)
    base = str(ROOT / "graphgym_configs" / "digits" / "supervised.yaml")
    words = ["search", "--config", base, "--space", "space.txt", "--runs", "4", "--repeat", "1", "--workers", "0"]
    command = [sys.executable, "-m", "gkd_cli", *words, "--no-controls", "out_dir", "results", "optim.max_epoch", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ledger = tmp_path / "results" / "supervised_search_space.gkd" / "ledger"
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while sum('"done"' in path.read_text() for path in ledger.glob("*.json")) < 2:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    before = {path.stem: path.read_text() for path in ledger.glob("*.json")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = {path.stem: json.loads(path.read_text()) for path in ledger.glob("*.json")}
    assert len(after) == 4 and {entry["state"] for entry in after.values()} == {"done"}
    assert before.keys() <= after.keys(), "what was begun is what goes on"
    finished = {name for name, text in before.items() if json.loads(text)["state"] == "done"}
    assert all(json.loads(before[name]) == after[name] for name in finished)
