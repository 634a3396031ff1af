from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study.configs import read_folder, write_configs
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid
from gkd_plugin.study.points import Point
from tests import toy

GRID = """
kd.preset preset ['supervised','mutual']
kd.students students [2]
gnn.dropout dropout [0,0.5]
"""


def make_points(folder, base=None, text=GRID):
    (folder / "grid.txt").write_text(text)
    return expand(toy.values() if base is None else base, "base", read_grid(folder / "grid.txt")).points


# -------------------------------------------------------------------------------------------------------------- written
def test_files_are_what_the_points_are(work_folder):
    points = make_points(work_folder)
    paths = write_configs(points, work_folder / "made", results="results/base_grid_grid")
    assert [path.name for path in paths] == [f"{point.name}.yaml" for point in points]
    for point, path in zip(points, paths, strict=True):
        values = yaml.safe_load(path.read_text())
        assert values["out_dir"] == "results/base_grid_grid"
        assert values["kd"] == point.values["kd"]
        assert read_config(path).plan == read_config(point.values).plan


def test_files_run_with_gkd_run_and_with_the_hosts_program(work_folder, host_program):
    (path, *_) = write_configs(make_points(work_folder), work_folder / "made")
    assert not run(path, overrides=["optim.max_epoch", "1"], quiet=True).failures
    values = yaml.safe_load(path.read_text())
    values["dataset"] |= {"format": "gkd", "name": "digits"}  # a program of its own does not know the toys
    assert isinstance(values["gnn"]["dropout"], float), "the host's reader takes no 0 for a float"
    values["optim"]["max_epoch"] = 1
    path.write_text(yaml.safe_dump(values))
    (host_program / "custom_graphgym" / "train" / "plugin.py").write_text("import gkd_plugin\n")
    done = subprocess.run(
        [sys.executable, "main.py", "--cfg", str(path), "--repeat", "1", "--mark_done"],
        cwd=host_program,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (host_program / "results" / path.stem / "0" / "test" / "stats.json").is_file()
    assert path.with_suffix(".yaml_done").is_file()


def test_all_runs_have_the_mode_that_distils_where_one_does(work_folder):
    plain = {"gnn": {"dim_inner": 8}}
    (work_folder / "grid.txt").write_text("seed seed [1]\n\nkd.preset preset [mutual]")
    points = expand(plain, "base", read_grid(work_folder / "grid.txt")).points
    modes = [yaml.safe_load(path.read_text())["train"]["mode"] for path in write_configs(points, work_folder / "made")]
    assert modes == ["distill", "distill"]
    own = [Point("a", {"train": {"mode": "custom"}, "kd": {"preset": "mutual"}})]
    assert yaml.safe_load(write_configs(own, work_folder / "made")[0].read_text())["train"]["mode"] == "custom"
    (path,) = write_configs(points[:1], work_folder / "made")
    assert "train" not in yaml.safe_load(path.read_text())
    assert [path.name for path in (work_folder / "made").iterdir()] == [f"{points[0].name}.yaml"], "no others are left"


def test_files_that_points_name_come_along(work_folder):
    """Beside the base: a teacher, its own teacher, and a further student; none of them is a run of the folder."""
    beside = work_folder / "bases"
    (beside / "cohorts").mkdir(parents=True)
    toy.config(beside, "large", kd={"teacher_cfg": "larger"})
    toy.config(beside, "larger")
    (beside / "cohorts" / "wide.yaml").write_text("gnn: {dim_inner: 12}")
    base = toy.config(beside, "base")
    (work_folder / "grid.txt").write_text(
        "kd.preset preset [soft_target]\nkd.teacher_cfg teacher [large.yaml]\n\n"
        "kd.preset preset [mutual]\nkd.cohort cohort [wide]\n"
    )
    points = expand(toy.values(), "base", read_grid(work_folder / "grid.txt")).points
    paths = write_configs(points, work_folder / "made", base=base)
    cohort = read_config(paths[1])
    assert cohort.further[0].gnn.dim_inner == 12
    assert sorted(path.name for path in (work_folder / "made" / "cohorts").iterdir()) == [
        "large.yaml",
        "larger.yaml",
        "wide.yaml",
    ]
    done = run(paths[0], overrides=["optim.max_epoch", "1"], quiet=True)
    assert done.results[0].teacher["name"].startswith("large")


# ----------------------------------------------------------------------------------------------------------------- read
def test_what_the_hosts_generator_wrote_is_read(tmp_path, host_dir):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(toy.values()))
    (tmp_path / "grid.txt").write_text(GRID.strip() + "\ngnn.layers_mp l_mp [2,4]\nkd.pairs pairs ['1~2']\n")
    words = ["--config", "base.yaml", "--grid", "grid.txt", "--out_dir", "made"]
    command = [sys.executable, str(host_dir / "configs_gen.py"), *words]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    folder = tmp_path / "made" / "base_grid_grid"
    done = sorted(folder.glob("*.yaml"))[0]
    done.rename(done.with_suffix(".yaml_done"))
    (folder / "notes.txt").touch()
    found = read_folder(folder)
    assert found.dimensions == {
        "preset": "kd.preset",
        "students": "kd.students",
        "dropout": "gnn.dropout",
        "l_mp": "gnn.layers_mp",
        "pairs": "kd.pairs",
    }
    by_name = {point.name: point for point in found.points}
    ours = make_points(tmp_path, text=(tmp_path / "grid.txt").read_text())
    assert by_name.keys() == {point.name for point in ours}
    for point in ours:
        assert by_name[point.name].choices == point.choices
        assert by_name[point.name].values == {**point.values, "out_dir": "results/base_grid_grid"}


def test_what_it_wrote_of_samples_is_read(tmp_path, host_dir):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(toy.values()))
    (tmp_path / "grid.txt").write_text("gnn.layers_mp l_mp [2,4]\ngnn.act act ['relu','prelu']\n")
    (tmp_path / "alias.txt").write_text("l_mp act\n")
    words = "--config base.yaml --grid grid.txt --out_dir made --sample_alias alias.txt --sample_num 2".split()
    command = [sys.executable, str(host_dir / "configs_gen.py"), *words]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = read_folder(tmp_path / "made" / "base_grid_grid")
    assert found.dimensions == {"l_mp": "gnn.layers_mp", "act": "gnn.act"}
    assert len(found.points) == len({repr(point.values) for point in found.points}) == 4
    assert found.duplicates == 4, "2 samples x 2 values, once for each dimension"


def test_files_of_any_name_are_points(tmp_path):
    for name, width in (("one", 8), ("two-more", 16)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(toy.values(gnn={"dim_inner": width})))
    (tmp_path / "copy.yml").write_text((tmp_path / "one.yaml").read_text())
    found = read_folder(tmp_path)
    assert [point.name for point in found.points] == ["copy", "two-more"]
    assert [dict(point.choices) for point in found.points] == [{}, {}]
    assert found.dimensions == {}
    assert found.duplicates == 1


def test_our_own_files_are_read_back(work_folder):
    text = "gnn.dim_inner width [8, 16]\nkd.preset preset [supervised, mutual]\nwhen preset mutual\n  kd_response.weight w [1, 2.5]"
    points = make_points(work_folder, text=text)
    write_configs(points, work_folder / "made")
    found = read_folder(work_folder / "made")
    assert {point.name: dict(point.choices) for point in found.points} == {
        point.name: dict(point.choices) for point in points
    }
    assert found.dimensions == {"width": "gnn.dim_inner", "preset": "kd.preset", "w": "kd_response.weight"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (None, "", "holds no YAML file"),
        ("a.yaml", "a: [", "a.yaml is not YAML"),
        ("a.yaml", "- 1", "a.yaml contains list"),
    ],
)
def test_wrong_folders(tmp_path, file, content, message):
    if file:
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        read_folder(tmp_path / "nothing")


def test_folders_in_the_way_are_left_alone(tmp_path):
    (tmp_path / "old.yaml").mkdir()
    (tmp_path / "older.yaml").write_text("{}")
    write_configs([Point("a", toy.values(tmp_path))], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "old.yaml"]
