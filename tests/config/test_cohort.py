from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.config.cohort import find_cohort
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import ConfigError

MAIN = """\
gnn: {layers_mp: 2, layers_post_mp: 1, dim_inner: 64, layer_type: gcnconv}
kd: {cohort: gat+deep}
kd_structure: {weight: 1}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in a folder of its own; the working folder is another."""
    folder, work = tmp_path / "configs", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    (folder / "main.yaml").write_text(MAIN)
    (folder / "gat.yaml").write_text("gnn: {layer_type: gatconv}\noptim: {base_lr: 1}\n")
    (folder / "deep.yaml").write_text("gnn: {layers_mp: 4.0}\n")
    return folder


def students(files: Path, *overrides: Any) -> list[Any]:
    config = read_config(files / "main.yaml", overrides)
    return find_cohort(config.cfg, config.plan, files)


def mistakes(files: Path, *overrides: Any) -> str:
    with pytest.raises(ConfigError) as error:
        read_config(files / "main.yaml", overrides)
    return str(error.value)


def test_each_file_is_merged_over_the_main_one(files):
    gat, deep = students(files)
    assert (gat.gnn.layer_type, gat.gnn.layers_mp, gat.gnn.dim_inner, gat.optim.base_lr) == ("gatconv", 2, 64, 1.0)
    assert (deep.gnn.layer_type, deep.gnn.layers_mp, deep.gnn.dim_inner) == ("gcnconv", 4, 64)
    assert read_config(files / "main.yaml").plan.students == 3


def test_no_cohort(files):
    assert students(files, "kd.cohort", "none") == []


def test_one_file_may_describe_two_students(files):
    assert [own.gnn.layer_type for own in students(files, "kd.cohort", "gat+gat")] == ["gatconv", "gatconv"]


@pytest.mark.parametrize("place", ["../configs", ".", "cohorts", "../configs/cohorts"])
def test_lookup(files, place):
    folder = Path(place)
    folder.mkdir(exist_ok=True)
    (folder / "other.yml").write_text("gnn: {dim_inner: 8}\n")
    assert [own.gnn.dim_inner for own in students(files, "kd.cohort", "other")] == [8]


def test_the_configs_folder_comes_first(files):
    Path("gat.yaml").write_text("gnn: {dim_inner: 8}\n")
    assert students(files)[0].gnn.layer_type == "gatconv"


def test_a_missing_file_says_where_it_was_looked_for(files):
    text = mistakes(files, "kd.cohort", "gta+nowhere")
    assert "Did you mean 'gat'" in text and "'nowhere.yaml'" in text
    for place in (files, Path.cwd(), Path.cwd() / "cohorts"):
        assert str(place) in text


def test_a_name_does_not_leave_its_folders(files):
    assert "must stay in its folder" in mistakes(files, "kd.cohort", "../secret")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gnn: {layer_typ: gatconv}", "Did you mean 'layer_type'"),
        ("gnn: {layer_type: gatcon}", "Did you mean 'gatconv'"),
        ("kd: {students: 3}", "does not belong in the file of one student"),
        ("dataset: {name: PubMed}", "All students see the same data"),
        ("dataset: {task_type: regression}", "All students see the same data"),
        ("share: {dim_out: 3}", "share.dim_out: has no effect in the file of one student"),
        ("seed: 3\nout_dir: there", "seed: has no effect in the file of one student"),
        ("optim: {base_lr: 0.1, max_epoch: 3}", "optim.max_epoch: has no effect in the file of one student"),
        ("train: {eval_period: 2}", "train.eval_period: has no effect in the file of one student"),
        ("splits: {kind: random}", "splits.kind: has no effect in the file of one student"),
        ("gnn: {head: graph}", "'graph' answers for another task than dataset.task node"),
        ("gnn: [", "is not YAML"),
    ],
)
def test_files_that_describe_no_student(files, content, message):
    (files / "gat.yaml").write_text(content)
    assert message in mistakes(files)
    assert "gat.yaml" in mistakes(files)


def test_layer_maps_are_checked_against_every_depth(files):
    assert "one_to_one needs equal depths" in mistakes(files, "kd_structure.layer_map", "one_to_one")
    pairs = ["kd_structure.layer_map", "pairs", "kd_structure.pairs"]
    assert "the learner has 2 layers" in mistakes(files, *pairs, "4~2")
    assert len(students(files, *pairs, "2~2")) == 2
    assert len(students(files, "kd_structure.layer_map", "proportional")) == 2


def test_all_files_are_looked_at(files):
    (files / "gat.yaml").write_text("gnn: {layer_typ: gatconv}")
    (files / "deep.yaml").write_text("gnn: {layers_mp: deep}")
    text = mistakes(files)
    assert "gnn.layer_typ" in text and "gnn.layers_mp" in text
