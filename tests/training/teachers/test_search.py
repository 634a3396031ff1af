"""Where a teacher's name leads: places, seeds, runs of the host's own program, grids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch_geometric.graphgym import register

from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.training.teachers import search
from tests import toy

# -- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_places_are_out_dir_and_each_parent_up_to_the_working_folder(here: Path) -> None:
    inside = Path("results/cora_grid_big/run")
    assert search.list_places(inside) == [here / "results/cora_grid_big", here / "results", here]
    assert search.list_places(Path("results/run")) == [here / "results", here]
    outside = here.parent / "elsewhere" / "results"
    assert search.list_places(outside / "run") == [outside, here.parent / "elsewhere", here.parent, here]


def test_the_nearest_place_wins(here: Path) -> None:
    for place in ("", "results", "results/grid"):
        (here / place / "wide").mkdir(parents=True)
    run_folder = Path("results/grid/run")
    for place in ("results/grid", "results", ""):
        assert search.find_folder("wide", run_folder) == here / place / "wide"
        (here / place / "wide").rmdir()
    assert search.find_folder("wide", run_folder) is None
    (here / "results/other/wide").mkdir(parents=True)
    assert search.find_folder("other/wide", run_folder) == here / "results/other/wide"


@pytest.mark.parametrize("name", ["../wide", "wide/../../..", ".", "", "/tmp"])
def test_a_name_never_leaves_its_folder(name: str, here: Path) -> None:
    with pytest.raises(UserError, match="leaves"):
        search.find_folder(name, Path("results/run"))


def test_names(here: Path) -> None:
    def name(**keys: Any) -> str:
        return search.teacher_name(read_config({"kd": {**keys}, "kd_response": {"weight": 1}}).plan)

    assert name(teacher="wide", teacher_cfg="other.yaml") == "wide"
    assert name(teacher_cfg="teachers/gcn.v2.yaml") == name(teacher_cfg="gcn.v2") == "gcn.v2"
    assert name(teacher_cfg="gcn.yml") == "gcn"


# -- seeds ------------------------------------------------------------------------------------------------------------


def ours(folder: Path, seed: int, val: float, **keys: Any) -> None:
    answer = {"epoch": 1, "val": val, "test": 0.0}
    other = {**answer, "val": val + 0.01}
    answers = {"s1": answer, "s2": other, "mean": answer, "first": answer, "best": other, "ensemble": answer}
    values = {
        "seed": seed + 1,
        "metric": "accuracy",
        "better": True,
        "predict": "best",
        "answers": answers,
        "parameters": [1, 1],
        "best_student": 2,
        "epochs": 1,
        "seconds": 1.0,
        **keys,
    }
    (folder / str(seed)).mkdir(parents=True)
    (folder / str(seed) / "result.json").write_text(json.dumps(values))


def test_match_best_and_a_number(tmp_path: Path) -> None:
    for seed, val in ((2, 0.5), (3, 0.9), (10, 0.9)):
        ours(tmp_path / "wide", seed, val)
    (tmp_path / "wide" / "4").mkdir()  # unfinished
    assert search.choose(tmp_path / "wide", "match", 10).seed == 10
    assert search.choose(tmp_path / "wide", 2, 10).seed == 2
    found = search.choose(tmp_path / "wide", "best", 10)
    assert (found.seed, found.record.val, found.weights.name) == (3, 0.91, "student_2.pt")
    for which in ("match", 4):
        with pytest.raises(UserError, match="asks for seed folder 4 .*; finished: 2, 3, 10"):
            search.choose(tmp_path / "wide", which, 4)
    assert search.has_seeds(tmp_path / "wide", [2, 3]) and not search.has_seeds(tmp_path / "wide", [3, 4])


@pytest.mark.parametrize(("metric", "seed"), [("accuracy", 1), ("mae", 0)])
def test_best_knows_that_less_of_an_error_is_better(metric: str, seed: int, tmp_path: Path) -> None:
    for number, val in enumerate((0.2, 0.4, float("nan"))):
        ours(tmp_path / "wide", number, val, metric=metric, better=metric == "accuracy")
    assert search.choose(tmp_path / "wide", "best", 0).seed == seed


def test_predict_first_serves_the_first_student(tmp_path: Path) -> None:
    ours(tmp_path / "wide", 0, 0.5, predict="first")
    found = search.choose(tmp_path / "wide", "match", 0)
    assert (found.weights.name, found.record.val) == ("student_1.pt", 0.5)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("wide.20240131-235959", False),
        ("wide.20240131-235959-2", False),
        ("gcn.v2.20240131-235959-13", False),
        ("wide", True),
        ("wide.v2", True),
        ("wide-20240131-235959", True),
        ("wide.20240131-235959-lr=2", True),
    ],
)
def test_what_fresh_set_aside_is_no_run_of_a_grid(name: str, counts: bool, tmp_path: Path) -> None:
    for each, accuracy in (("plain", 0.5), (name, 0.9)):
        best = tmp_path / "grid" / each / "agg" / "val" / "best.json"
        best.parent.mkdir(parents=True)
        best.write_text(json.dumps({"epoch": 1, "accuracy": accuracy}))
        (tmp_path / "grid" / each / "config.yaml").write_text("{}")
        ours(tmp_path / "grid" / each, 0, accuracy)
    assert search.choose(tmp_path / "grid", "match", 0).name == (name if counts else "plain")
    assert search.choose(tmp_path / "grid" / name, "match", 0).name == name  # by its own name it teaches


# -- the host's own program -------------------------------------------------------------------------------------------

KARATE = """
import torch
from torch_geometric.datasets import KarateClub
from torch_geometric.graphgym.register import register_loader

@register_loader('masked')
def load(format, name, dataset_dir):
    if name != 'KarateMasked':
        return None
    data = KarateClub()
    for i, split in enumerate(('train', 'val', 'test')):
        data._data[f'{split}_mask'] = torch.arange(34) % 3 == i
    return data
"""


@pytest.fixture
def karate() -> Iterator[None]:
    import gkd_plugin  # noqa: F401 - so that conftest knows the registries

    known = set(register.loader_dict)
    exec(KARATE, {})
    yield
    for name in set(register.loader_dict) - known:
        register.loader_dict.pop(name)


def values(**groups: Any) -> dict[str, Any]:
    base = toy.values(
        dataset={"format": "PyG", "name": "KarateMasked"},
        gnn={"dim_inner": 16, "batchnorm": True},
        optim={"max_epoch": 3, "base_lr": 0.1},
    )
    del base["train"]["mode"]  # a key of ours: the stock program does not know it
    return toy.merge(base, groups)


STUDENT = values(
    train={"eval_period": 1, "mode": "distill"},
    gnn={"dim_inner": 4},
    kd={"teacher": "stock"},
    kd_response={"weight": 1.0, "nodes": "all"},
    kd_feature={"weight": 1.0, "layer_map": "uniform"},
)


def execute(command: list[str], folder: Path, expect: int = 0) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stderr


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def stock(host_program: Path, karate: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder after the host's own program, without the plugin, has trained ``stock`` for two seeds."""
    (host_program / "custom_graphgym" / "train" / "data.py").write_text(KARATE)
    write(host_program, "stock", values())
    execute(["main.py", "--cfg", "stock.yaml", "--repeat", "2"], host_program)
    monkeypatch.chdir(host_program)
    return host_program


def told(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())["teacher"]


@pytest.mark.slow
def test_a_run_of_the_stock_program_teaches_through_both_doors(stock: Path) -> None:
    folder = stock / "results" / "stock"
    assert [path.suffix for path in (folder / "0" / "ckpt").iterdir()] == [".ckpt"]
    for name in ("ours", "theirs"):
        write(stock, name, STUDENT)
    report = run("ours.yaml", repeat=2, quiet=True)
    last, test = (
        json.loads((folder / "1" / split / "stats.json").read_text().splitlines()[-1]) for split in ("val", "test")
    )
    assert told(report.folder / "1") == {
        "name": "stock",
        "from": str(folder / "1" / "val" / "stats.json"),
        "metric": "accuracy",
        "val": last["accuracy"],
        "test": test["accuracy"],
    }
    # in the host's own program, the plugin given by -m
    execute(["-m", "gkd_plugin", "main.py", "--cfg", "theirs.yaml", "--repeat", "2"], stock)
    for seed in ("0", "1"):
        ours, theirs = (torch.load(f"results/{n}/{seed}/student_1.pt", weights_only=True) for n in ("ours", "theirs"))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert told(stock / "results/theirs/1") == told(report.folder / "1")
    # there, nothing is trained first
    write(stock, "first", {**STUDENT, "kd": {"teacher_cfg": "wide.yaml"}})
    said = execute(["-m", "gkd_plugin", "main.py", "--cfg", "first.yaml"], stock, expect=2)
    assert "kd.teacher_cfg: wide.yaml is trained first only by gkd run" in said and "Traceback" not in said
    assert "gkd run --cfg wide.yaml --name wide" in said
    _mistakes(stock, folder)
    _grids(stock, folder)


def _mistakes(stock: Path, folder: Path) -> None:
    """What is wrong with a run of the stock program, one after the other, on copies of it."""

    def refused(change: Any) -> str:
        shutil.rmtree("results/copy", ignore_errors=True)
        shutil.copytree(folder, "results/copy")
        change(stock / "results" / "copy")
        with pytest.raises(UserError) as caught:
            run({**STUDENT, "kd": {"teacher": "copy"}}, name="student", quiet=True)
        assert not Path("results/student").exists()
        return str(caught.value)

    def longer(copy: Path) -> None:
        text = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(text.replace("max_epoch: 3", "max_epoch: 9"))

    def torn_rows(copy: Path) -> None:
        (copy / "0/val/stats.json").write_text('{"epoch": 2, "accu')

    def other_rows(copy: Path) -> None:
        path = copy / "0/val/stats.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps({**row, "accuracy": 0.0}) for row in lines))

    def code(copy: Path) -> None:
        (path,) = (copy / "0/ckpt").iterdir()
        torch.save({"state_dict": {"weight": Path("x")}}, path)

    def torn_weights(copy: Path) -> None:
        (path,) = (copy / "0/ckpt").iterdir()
        path.write_bytes(path.read_bytes()[:1000])

    assert "contains no finished run" in refused(longer)
    assert "contains no finished run" in refused(lambda copy: [shutil.rmtree(p) for p in copy.glob("*/ckpt")])
    assert "are not those of a finished GraphGym run" in refused(torn_rows)
    assert "are not those of a finished GraphGym run" in refused(lambda c: (c / "config.yaml").write_text("optim: 3"))
    assert "stats.json says 0" in refused(other_rows)
    assert "is not a tensor file, or contains pickled code" in refused(code)
    assert "is not a tensor file" in refused(torn_weights)


def _grids(stock: Path, folder: Path) -> None:
    """The best run of a finished grid of the host, by the mean of its seeds on validation."""
    for name, accuracy in (("a", 0.2), ("b", 0.8), ("c", 0.5)):
        copy = stock / "results" / "stock_grid_big" / name
        shutil.copytree(folder, copy)
        best = copy / "agg/val/best.json"
        best.write_text(json.dumps({**json.loads(best.read_text()), "accuracy": accuracy}))
    grid = {**STUDENT, "kd": {"teacher": "stock_grid_big"}}
    report = run(grid, name="by_grid", quiet=True)
    assert told(report.folder / "0")["name"] == "b"
    (stock / "results/stock_grid_big/c/agg/val/best.json").unlink()
    with pytest.raises(UserError, match="a grid, and its run c is not finished"):
        run(grid, name="later", quiet=True)
    report = run({**STUDENT, "kd": {"teacher": "stock_grid_big/a"}}, name="by_name", quiet=True)
    assert told(report.folder / "0")["name"] == "a"


def test_the_untrained_row_of_the_sanity_check_is_not_the_record(tmp_path: Path) -> None:
    """The stock program writes two rows for epoch 0; the first is of the network before its training."""
    seed = tmp_path / "stock" / "0"
    for path in (seed / "ckpt", seed / "val"):
        path.mkdir(parents=True)
    (tmp_path / "stock" / "config.yaml").write_text("optim: {max_epoch: 1}")
    (seed / "ckpt" / "epoch=0-step=1.ckpt").write_text("")
    rows = [
        {"epoch": 0, "loss": 1.0, "lr": 0, "params": 3, "time_iter": 0.1, "auc": auc, "f1": 0.1} for auc in (0.1, 0.9)
    ]
    (seed / "val" / "stats.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = search.choose(tmp_path / "stock", "match", 0)
    assert (found.record.metric, found.record.val) == ("auc", 0.9)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("{}", "accurate"),
        ("{metric_best: f1}", "balanced"),
        ("{metric_best: loss, metric_agg: argmin}", "balanced"),
        ("{metric_best: auto, metric_agg: argmin}", "accurate"),
    ],
)
def test_the_best_of_a_grid_is_so_by_the_metric_of_its_runs(config: str, name: str, tmp_path: Path) -> None:
    rows = {
        "accurate": {"accuracy": 0.9, "f1": 0.1, "loss": 2.0},
        "balanced": {"accuracy": 0.5, "f1": 0.8, "loss": 1.0},
    }
    for each, row in rows.items():
        best = tmp_path / "grid" / each / "agg" / "val" / "best.json"
        best.parent.mkdir(parents=True)
        best.write_text(json.dumps({"epoch": 1, **row, "f1_std": 0.9}))
        (tmp_path / "grid" / each / "config.yaml").write_text(config)
        ours(tmp_path / "grid" / each, 0, 0.5)
    assert search.choose(tmp_path / "grid", "match", 0).name == name
