"""``gkd grid`` and ``gkd status``, from the command line to the folders: what is trained, kept, refused and said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import gkd_cli
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study import extras
from gkd_plugin.study.grid import run_grid
from gkd_plugin.study.points import Point
from gkd_plugin.study.teachers import find_orders
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import break_seeds, trained

GRID = "kd.preset preset [supervised, oc]\nkd.students students [2]\n"  # oc updates as supervised does
STUDY = Path("results/base_grid_grid")


@pytest.fixture
def base(work_folder: Path) -> Path:
    """A base and a grid in the working folder."""
    Path("grid.txt").write_text(GRID)
    path = Path("base.yaml")
    path.write_text(yaml.safe_dump(toy.values(Path("results"), optim={"max_epoch": 2})))
    return path


def gkd(command: str, *words: str) -> Result:
    return CliRunner().invoke(gkd_cli.main, [command, *words])


def grid(*words: str, repeat: int = 2) -> Result:
    """``gkd grid`` over the base, in this process."""
    return gkd("grid", "--config", "base.yaml", "--grid", "grid.txt", "--workers", "0", "--repeat", str(repeat), *words)


def points(study: Path = STUDY) -> dict[str, dict[str, Any]]:
    said = json.loads(Path(f"{study}.gkd/study.json").read_text())
    return {point["name"]: point for point in said["points"]}


def states(study: Path = STUDY) -> dict[str, str]:
    files = Path(f"{study}.gkd/ledger").glob("*.json")
    return {path.stem: json.loads(path.read_text())["state"] for path in files}


SUPERVISED, OC = "base-preset=supervised-students=2", "base-preset=oc-students=2"


def test_every_point_is_trained_as_gkd_run_trains_it_and_compared(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = trained(monkeypatch)
    done = grid()
    assert done.exit_code == 0, done.output
    assert {name: point["control"] for name, point in points().items()} == {SUPERVISED: None, OC: SUPERVISED}
    assert states() == {SUPERVISED: "done", OC: "done"}
    assert len(begun) == 4
    assert {path.name for path in STUDY.iterdir()} == {SUPERVISED, OC, "agg"}
    assert {"report.html", "report.md", "tables", "configs", "ledger", "grid.txt", "study.json"} <= {
        path.name for path in Path(f"{STUDY}.gkd").iterdir()
    }
    alone = run(f"{STUDY}.gkd/configs/{OC}.yaml", repeat=2, overrides=["out_dir", "alone"], quiet=True)
    for result in alone.results:
        said = json.loads((STUDY / OC / str(result.seed - 1) / "result.json").read_text())
        assert said["answers"]["mean"]["test"] == result.answers["mean"].test
    assert "difference to its control" in done.output and "no interval: 2 seeds" in done.output
    assert "base_grid_grid (grid, begun" in gkd("status", str(STUDY)).output


def test_the_same_command_trains_only_what_is_new(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid()
    begun = trained(monkeypatch)
    assert grid().exit_code == 0 and not begun
    Path("grid.txt").write_text(GRID.replace("[2]", "[2, 3]"))
    assert grid().exit_code == 0
    new = ("base-preset=oc-students=3", "base-preset=supervised-students=3")
    assert sorted(set(begun)) == [f"{name}/{seed}" for name in new for seed in (0, 1)]
    begun.clear()
    assert grid(repeat=3).exit_code == 0
    assert len(begun) == 4 and all(path.endswith("/2") for path in begun)
    begun.clear()
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    other = grid("seed", "5", repeat=3)
    assert other.exit_code == 2 and "was begun with seed 0, and this is 5" in other.output and not begun
    changed = grid("optim.base_lr", "0.5", repeat=3)
    assert changed.exit_code == 2 and "begun with other configurations" in changed.output and not begun
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before
    assert "optim.base_lr" in changed.output


def test_equal_configurations_count_once_however_they_are_written(base: Path) -> None:
    """As two points they would count twice in Holm's correction."""
    Path("grid.txt").write_text(
        'kd.preset preset [mutual]\nkd.students students [2, 2.0, "2"]\nkd_response.temperature t [1, 1.0]\n'
        "gnn.dropout dropout [0, 0.0]\ngnn.batchnorm norm [true, True]\noptim.max_epoch epochs [2, 2.0]\n"
    )
    done = grid("--dry-run")
    assert done.exit_code == 0 and "(1 point, 1 control)" in done.output, done.output
    assert "24 left out: the same as another" in done.output  # 23 points, and one value that is written twice


def test_a_seed_that_is_damaged_since_is_said_and_does_not_lead(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has lost a seed would be ranked by the others."""
    assert grid().exit_code == 0
    scores = [json.loads(Path(STUDY, SUPERVISED, seed, "result.json").read_text()) for seed in "01"]
    worse = min((0, 1), key=lambda seed: scores[seed]["answers"]["mean"]["val"])
    Path(STUDY, SUPERVISED, str(worse), "val", "stats.json").write_text("garbage")
    begun = trained(monkeypatch)
    for more in ((), ("--retry-failed",)):
        done = grid(*more)
        assert done.exit_code == 1 and not begun, done.output
        lines = " ".join(done.output.split())
        assert "1 done, 1 damaged" in lines and f"damaged {SUPERVISED}: " in lines
        assert lines.index(OC) < lines.index(f"{SUPERVISED} (1 of 2 seeds)")
        assert "remove the folder of a damaged seed" in lines
    shutil.rmtree(Path(STUDY, SUPERVISED, str(worse)))
    assert grid(repeat=1).exit_code == 0 and begun == [f"{SUPERVISED}/{worse}"]


def test_a_dry_run_counts_and_estimates_and_trains_nothing_there(base: Path) -> None:
    Path("grid.txt").write_text("kd.preset preset [alignahead, oc]\ngnn.dim_inner width [8, 4, 8]\n")
    done = grid("--dry-run", repeat=3)
    assert done.exit_code == 0, done.output
    assert "6 configurations (4 points, 2 controls) of 3 seeds" in done.output
    assert "about " in done.output and "trials of 2 epochs" in done.output
    assert not STUDY.exists()
    written = {path.stem for path in Path(f"{STUDY}.gkd/configs").glob("*.yaml")}
    assert len(written) == 6
    for name in written:
        read_config(f"{STUDY}.gkd/configs/{name}.yaml")
    assert {path.name for path in Path(f"{STUDY}.gkd").iterdir()} == {"configs"}


def test_a_dry_run_lists_what_the_base_says_where_the_grid_does_not_choose(base: Path) -> None:
    Path("grid.txt").write_text(
        "kd.preset preset [oc]\n\nkd.preset preset [supervised]\nkd.students students [3]\noptim.base_lr lr [0.5]\n"
    )
    values = yaml.safe_load(base.read_text())
    base.write_text(yaml.safe_dump({**values, "kd": {**values.get("kd", {}), "students": 2}}))
    said = grid("--dry-run").output
    assert "  students (kd.students): 2, 3\n" in said
    assert f"  lr (optim.base_lr): {values['optim']['base_lr']}, 0.5\n" in said


def test_no_further_trial_begins_once_one_took_long(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.study.estimate._PATIENCE", 0.0)
    assert "1 trial of 2 epochs" in grid("--dry-run").output


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("kd.preset preset [supervised]\ngnn.dim_inner width [0, wide]\n", (), "2 mistakes in 2 of 2 configurations"),
        ("kd.preset\n", (), "grid.txt"),
        ("", (), "grid.txt"),
        (GRID, ("--name", "../x"), "'../x' is not the name of a study"),
        (GRID, ("--sample-alias", "nothing"), "nothing"),
        ("kd.preset preset [soft_target]\n", ("kd.teacher_cfg", "none.yaml"), "none.yaml"),
        (GRID, ("--budget", "0"), "--budget 0"),
        (GRID, ("kd.preset",), "has no value"),
        (GRID, ("--name", "x" * 300), "too long"),
        (GRID, ("--name", "x" * 200), "too long"),
        (GRID, ("--name", "x.gkd"), "does not end with .gkd"),
        (GRID, ("--name", "a\nb"), "not the name of a study"),
        (GRID, ("--name", ""), "--name: ''"),
        (GRID, ("out_dir", ""), "out_dir"),
        (GRID, ("out_dir", "base.yaml"), "is a file, where a folder is needed"),
        (GRID, ("--timeout", "nan"), "--timeout nan"),
        (GRID, ("--memory", "1GB"), "With --workers 0"),
        (GRID, ("--per-gpu", "2"), "With --workers 0"),
        (GRID, ("--workers", "1", "--memory", "lots"), "is not a valid size"),
        (GRID, ("--scheduler", "tcp://127.0.0.1:9"), "give one of the two"),
    ],
)
def test_a_mistake_is_one_message_before_anything_is_trained(
    text: str, words: tuple[str, ...], said: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trained(monkeypatch)
    Path("grid.txt").write_text(text)
    done = grid(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert said in done.output and not begun and not STUDY.exists()


def test_a_folder_that_cannot_be_made_is_one_message(base: Path) -> None:
    done = grid("out_dir", "/proc/nothing/here")
    assert done.exit_code in (1, 2) and "/proc/nothing" in done.output and "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


def test_the_threads_of_the_base_are_kept_and_a_seed_as_a_dimension_is_warned_of(base: Path) -> None:
    Path("grid.txt").write_text("kd.preset preset [supervised]\nseed seed [0, 1]\n")
    done = grid("--dry-run", "num_threads", "3")
    assert done.exit_code == 0 and "points share seeds" in done.output
    written = [yaml.safe_load(path.read_text()) for path in Path(f"{STUDY}.gkd/configs").glob("*.yaml")]
    assert [values["num_threads"] for values in written] == [3, 3]


@pytest.mark.parametrize("package", ["pandas", "matplotlib", "jinja2"])
def test_a_missing_package_is_said_before_anything_is_trained(
    package: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == package else object())
    done = grid()
    assert done.exit_code == 2 and f"needs {package}: pip install 'gkd_plugin[study]'" in done.output
    assert not Path("results").exists()


def test_the_state_is_told_in_the_studys_own_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(repeat=1)
    monkeypatch.chdir(STUDY)
    assert "base_grid_grid (grid, begun" in gkd("status", ".").output
    assert gkd("status", "/").exit_code == 2


def test_a_folder_of_other_runs_is_left_alone(base: Path) -> None:
    run(base, overrides=["out_dir", str(STUDY)], name="mine", quiet=True)
    before = sorted(Path("results").rglob("*"))
    done = grid()
    assert done.exit_code == 2 and "belongs to no study" in done.output
    assert sorted(Path("results").rglob("*")) == before


def test_a_studys_file_that_is_removed_is_written_anew(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(repeat=1)
    file = Path(f"{STUDY}.gkd/study.json")
    file.write_text("{")
    done = grid(repeat=1)
    assert done.exit_code == 2 and "remove this file" in done.output
    file.unlink()
    begun = trained(monkeypatch)
    assert grid(repeat=1).exit_code == 0 and not begun
    assert set(points()) == {SUPERVISED, OC}


def test_one_failure_stops_nothing_else_and_is_tried_again_on_demand(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Trainer.run

    def failing(self: Trainer, seed: int) -> Any:
        if len(self.students) == 2:
            raise RuntimeError("no such luck")
        return plain(self, seed)

    Path("grid.txt").write_text(GRID.replace("[2]", "[1, 2]").replace(", oc", ""))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", failing)
        done = grid()
    assert done.exit_code == 1
    assert states() == {"base-preset=supervised-students=1": "done", SUPERVISED: "failed"}
    assert "no such luck" in done.output and "no such luck" in gkd("status", str(STUDY)).output
    begun = trained(monkeypatch)
    again = grid()
    assert again.exit_code == 1 and not begun, "what failed stays as it is"
    assert "the same command with --retry-failed trains again what failed" in again.output
    assert grid("--retry-failed").exit_code == 0 and len(begun) == 2
    assert set(states().values()) == {"done"}


def test_ctrl_c_is_recorded_and_the_same_command_goes_on(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_seeds(patch, KeyboardInterrupt())
        done = grid()
    assert done.exit_code == 130 and "the same command continues" in done.output
    assert "interrupted" in states().values()
    said = gkd("status", str(STUDY)).output
    assert "1 interrupted" in said and "no process is working on it" in said
    assert grid().exit_code == 0 and set(states().values()) == {"done"}


def test_a_folder_of_configurations_is_run_as_it_is(base: Path) -> None:
    folder = Path("configs/base_grid_mine")
    folder.mkdir(parents=True)
    for preset in ("supervised", "oc"):
        values = toy.values(
            Path("results/base_grid_mine"), optim={"max_epoch": 2}, kd={"preset": preset, "students": 2}
        )
        (folder / f"base-preset={preset}.yaml").write_text(yaml.safe_dump(values))
    done = gkd("grid", str(folder), "--workers", "0", "--repeat", "1")
    assert done.exit_code == 0, done.output
    found = points(Path("results/base_grid_mine"))
    assert {name: (point["choices"], point["control"]) for name, point in found.items()} == {
        "base-preset=supervised": ({"preset": "supervised"}, None),
        "base-preset=oc": ({"preset": "oc"}, "base-preset=supervised"),
    }


def test_teachers_are_trained_once_beside_the_study_and_placebos_on_demand(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("wide.yaml").write_text(yaml.safe_dump(toy.values(optim={"max_epoch": 2}, gnn={"dim_inner": 32})))
    Path("grid.txt").write_text(
        "kd.preset preset [soft_target]\nkd.teacher_cfg teacher [wide.yaml]\nkd_response.weight weight [1, 2]\n"
    )
    begun = trained(monkeypatch)
    done = grid("--placebo", repeat=1)
    assert done.exit_code == 0, done.output
    assert begun[0] == "wide/0" and begun.count("wide/0") == 1 and Path("results/wide/0/result.json").is_file()
    roles = [point["role"] for point in points().values()]
    # the two weights have one control and one label smoothing between them
    assert sorted(roles) == ["control", "label_smoothing", "point", "point", "shuffled_teacher", "shuffled_teacher"]
    assert len(begun) == 1 + 2 + 1 + 2 + 1
    assert states()["wide"] == "done"


def test_seeds_that_did_not_fail_are_shown_where_every_run_has_one_that_did(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_seeds(monkeypatch, RuntimeError("no luck"))
    done = grid()
    assert done.exit_code == 1 and states() == {SUPERVISED: "failed", OC: "failed"}
    assert "val accuracy %" in done.output and "(no interval: 1 seed)" in done.output


def test_a_teacher_that_has_changed_is_refused_before_the_study_is_written(base: Path) -> None:
    wide = toy.values(optim={"max_epoch": 2}, gnn={"dim_inner": 32})
    Path("wide.yaml").write_text(yaml.safe_dump(wide))
    text = "kd.preset preset [soft_target]\nkd.teacher_cfg teacher [wide.yaml]\n"
    Path("grid.txt").write_text(text)
    assert grid(repeat=1).exit_code == 0
    said = Path(f"{STUDY}.gkd/study.json").read_bytes()
    Path("wide.yaml").write_text(yaml.safe_dump(toy.merge(wide, {"gnn": {"dim_inner": 24}})))
    Path("grid.txt").write_text(f"{text}kd_response.weight weight [1, 2]\n")
    done = grid(repeat=1)
    assert done.exit_code == 2 and "was trained with a different configuration" in done.stderr
    assert Path(f"{STUDY}.gkd/study.json").read_bytes() == said


def test_orders_of_one_teacher_are_put_together(base: Path) -> None:
    Path("wide.yaml").write_text(yaml.safe_dump(toy.values(gnn={"dim_inner": 32})))
    kd = {"preset": "soft_target", "teacher_cfg": "wide.yaml"}
    configs = [read_config(toy.values(kd={**kd, "teacher_seed": seed}), path=base) for seed in ("match", 4)]
    orders = find_orders(configs, STUDY, 2)
    assert [(order.name, order.seeds) for order in orders] == [("wide", [0, 1, 2, 3, 4])]
    assert orders[0].folder == Path("results/wide")


def test_a_python_call_needs_a_folder_or_a_grid(base: Path) -> None:
    with pytest.raises(UserError, match="name a folder of configurations"):
        run_grid(base)
    with pytest.raises(UserError, match="must be at least 1"):
        run_grid(base, "grid.txt", repeat=0)
    assert Point("x", {}).role == "point"


def test_an_added_dimension_finds_its_earlier_runs_under_their_names(base: Path) -> None:
    Path("grid.txt").write_text("kd.preset preset [supervised, oc]\nkd.students students 2\n")
    assert grid(repeat=1).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in STUDY.glob("*/0/result.json")}
    written = toy.values(Path("results"))["gnn"]["dim_inner"]
    Path("grid.txt").write_text(f"kd.preset preset oc\nkd.students students 2\ngnn.dim_inner width [{written}, 3]\n")
    again = grid(repeat=1)
    assert (
        again.exit_code == 0 and "1 point of an earlier grid is kept, and counted in tables and report" in again.output
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is trained twice"
    found = {name: point["choices"] for name, point in points().items() if point["role"] == "point"}
    assert found == {
        SUPERVISED: {"preset": "supervised", "students": 2, "width": written},
        OC: {"preset": "oc", "students": 2, "width": written},
        f"{OC}-width=3": {"preset": "oc", "students": 2, "width": 3},
    }
    again = grid(repeat=1)
    assert again.exit_code == 0 and {path: path.stat().st_mtime_ns for path in before} == before
