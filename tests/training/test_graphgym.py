"""One YAML through three doors, and the host's own programs unmodified."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gkd_plugin.commands.run import run
from gkd_plugin.training.run_folder import clear_earlier
from tests import toy

EPOCHS = 5

# A main program as forks write it: set_cfg after import, loggers of its own class, dispatch on train_dict.
FORK_MAIN = """
import os, sys
import torch
import custom_graphgym  # noqa
from torch_geometric import seed_everything
from torch_geometric.graphgym.cmd_args import parse_args
from torch_geometric.graphgym.config import cfg, dump_cfg, load_cfg, set_cfg, set_out_dir, set_run_dir
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.logger import Logger, infer_task
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.optim import create_optimizer, create_scheduler
from torch_geometric.graphgym.register import train_dict
from torch_geometric.graphgym.utils.agg_runs import agg_runs
from torch_geometric.graphgym.utils.comp_budget import params_count
from torch_geometric.graphgym.utils.device import auto_select_device


class OwnLogger(Logger):
    def update_stats(self, true, pred, loss, lr, time_used, params, dataset_name=None, **kwargs):
        super().update_stats(true, pred, loss, lr, time_used, params, **kwargs)

    def write_epoch(self, cur_epoch):
        super().write_epoch(cur_epoch)
        return {}


if __name__ == '__main__':
    args = parse_args()
    set_cfg(cfg)
    load_cfg(cfg, args)
    set_out_dir(cfg.out_dir, args.cfg_file)
    dump_cfg(cfg)
    torch.set_num_threads(cfg.num_threads)
    for _ in range(args.repeat):
        set_run_dir(cfg.out_dir)
        cfg.seed = cfg.seed + 1
        seed_everything(cfg.seed)
        auto_select_device()
        loaders = create_loader()
        loggers = [OwnLogger(name, infer_task()) for name in ('train', 'val', 'test')]
        model = create_model()
        optimizer = create_optimizer(model.parameters(), cfg.optim)
        scheduler = create_scheduler(optimizer, cfg.optim)
        cfg.params = params_count(model)
        train_dict[cfg.train.mode](loggers, loaders, model, optimizer, scheduler)
    agg_runs(cfg.out_dir, cfg.metric_best)
"""


def values(**groups: Any) -> dict[str, Any]:
    base = toy.values(
        dataset={"format": "PyG", "name": "digits"},
        train={"enable_ckpt": False},
        optim={"max_epoch": EPOCHS},
        kd={"preset": "alignahead_pp"},
        kd_structure={"weight": 5.0},
    )
    return toy.merge(base, groups)


def execute(command: list[str], folder: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def numbers(run_folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(run_folder.rglob("*.json")):
        if path.name in ("stats.json", "best.json"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            timing = ("eta", "time_iter", "eta_std", "time_iter_std")
            kept = [{k: v for k, v in row.items() if k not in timing} for row in rows]
            found[str(path.relative_to(run_folder))] = kept
    return found


@pytest.mark.parametrize("patience", [None, 1])
def test_the_same_yaml_through_three_doors_gives_equal_numbers(
    patience: int | None, host_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host_program / "custom_graphgym" / "train" / "gkd.py").write_text("import gkd_plugin  # noqa\n")
    (host_program / "fork_main.py").write_text(FORK_MAIN)
    keys = {"kd": {"preset": "alignahead_pp", **({"patience": patience} if patience else {})}}
    text = yaml.safe_dump(values(**keys))
    for name in ("one", "two", "three"):
        (host_program / f"{name}.yaml").write_text(text)
    execute([sys.executable, "main.py", "--cfg", "one.yaml", "--repeat", "2"], host_program)
    execute([sys.executable, "fork_main.py", "--cfg", "two.yaml", "--repeat", "2"], host_program)
    monkeypatch.chdir(host_program)
    run("three.yaml", repeat=2, quiet=True)
    ours = numbers(host_program / "results" / "three")
    assert {"0/train/stats.json", "1/val/stats.json", "1/test/stats.json", "agg/test/best.json"} <= ours.keys()
    assert len(ours["0/train/stats.json"]) == EPOCHS
    assert ours == numbers(host_program / "results" / "one")
    assert ours == numbers(host_program / "results" / "two")


def test_the_runner_gives_the_stock_program_its_dispatch_back(host_program: Path) -> None:
    (host_program / "run.yaml").write_text(yaml.safe_dump(values()))
    execute([sys.executable, "-m", "gkd_plugin", "main.py", "--cfg", "run.yaml", "--repeat", "1"], host_program)
    row = json.loads((host_program / "results/run/0/test/stats.json").read_text())
    assert "s2_accuracy" in row and "ensemble_accuracy" in row


def test_plain_runs_are_not_touched(host_program: Path) -> None:
    """The same standard run with and without the plugin in the process: the host's files are equal."""
    plain = {k: v for k, v in values().items() if not k.startswith("kd")}
    plain["dataset"]["format"] = "PyG"
    plain["train"] = {"eval_period": 1, "enable_ckpt": False}
    register = "from torch_geometric.graphgym.register import register_loader\n"
    (host_program / "with_it.yaml").write_text(
        yaml.safe_dump({**plain, "dataset": {**plain["dataset"], "name": "KarateMasked"}})
    )
    (host_program / "without.yaml").write_text((host_program / "with_it.yaml").read_text())
    (host_program / "custom_graphgym" / "train" / "data.py").write_text(
        register + "import torch\nfrom torch_geometric.datasets import KarateClub\n"
        "@register_loader('masked')\n"
        "def load(format, name, dataset_dir):\n"
        "    if name != 'KarateMasked':\n        return None\n"
        "    data = KarateClub()\n"
        "    for i, split in enumerate(('train', 'val', 'test')):\n"
        "        data._data[f'{split}_mask'] = torch.arange(34) % 3 == i\n"
        "    return data\n"
    )
    execute([sys.executable, "main.py", "--cfg", "without.yaml"], host_program)
    execute([sys.executable, "-m", "gkd_plugin", "main.py", "--cfg", "with_it.yaml"], host_program)
    assert numbers(host_program / "results/without") == numbers(host_program / "results/with_it")


def test_mistakes_in_a_host_program_exit_with_code_2_and_one_message(host_program: Path) -> None:
    (host_program / "bad.yaml").write_text(yaml.safe_dump(values(kd_structure={"kernel": "laplacien"})))
    done = execute([sys.executable, "-m", "gkd_plugin", "main.py", "--cfg", "bad.yaml"], host_program, expect=2)
    assert "kd_structure.kernel" in done.stderr and "laplacian" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_mode_and_missing_script(host_program: Path) -> None:
    (host_program / "mode.yaml").write_text(yaml.safe_dump(values(train={"mode": "distil"})))
    done = execute([sys.executable, "-m", "gkd_plugin", "main.py", "--cfg", "mode.yaml"], host_program, expect=2)
    assert "train.mode" in done.stderr and "distill" in done.stderr and "Traceback" not in done.stderr
    done = execute([sys.executable, "-m", "gkd_plugin", "nothing.py"], host_program, expect=2)
    assert "nothing.py" in done.stderr


def test_a_program_that_bound_train_before_the_plugin_came(host_program: Path) -> None:
    main = (host_program / "main.py").read_text()
    late = main.replace("import custom_graphgym  # noqa, register custom modules\n", "")
    late = late.replace("if __name__", "import gkd_plugin  # noqa\n\nif __name__")
    (host_program / "late.py").write_text(late)
    (host_program / "run.yaml").write_text(yaml.safe_dump(values()))
    execute([sys.executable, "late.py", "--cfg", "run.yaml"], host_program)
    assert (host_program / "results/run/0/test/stats.json").is_file()


def test_the_host_s_own_programs_run_a_grid_and_end_with_a_test_table(
    host_program: Path, data_sets: Callable[..., Path]
) -> None:
    """configs_gen.py, parallel.sh, main.py, agg_batch.py as they are, over presets and weights."""
    (host_program / "base.yaml").write_text(yaml.safe_dump({k: v for k, v in values().items() if k != "kd_structure"}))
    (host_program / "grid.txt").write_text(
        "kd.preset preset ['supervised','oc','alignahead']\nkd_structure.weight weight [0,0.5,10]\n"
    )
    execute(
        [sys.executable, "configs_gen.py", "--config", "base.yaml", "--grid", "grid.txt", "--out_dir", "configs"],
        host_program,
    )
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["bash", "parallel.sh", "configs/base_grid_grid", "1", "2", "0", "-m gkd_plugin main"]
    done = subprocess.run(command, cwd=host_program, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = host_program / "results" / "base_grid_grid"
    execute([sys.executable, "agg_batch.py", "--dir", str(results)], host_program)
    with open(results / "agg" / "test_best.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 9
    assert {(row["preset"], float(row["weight"])) for row in table} == {
        (preset, weight) for preset in ("supervised", "oc", "alignahead") for weight in (0.0, 0.5, 10.0)
    }
    assert all(0 <= float(row["accuracy"]) <= 1 for row in table)
    off = {row["preset"]: row["accuracy"] for row in table if float(row["weight"]) == 0}
    assert off["oc"] == off["alignahead"]  # nothing is taught at weight 0


TOY = """
import sys
sys.path.insert(0, {root!r})
from torch_geometric.graphgym.register import loader_dict
from tests import toy
loader_dict['toy'] = toy.load
"""


def toy_program(folder: Path) -> None:
    """The host's program with our import line and the toy data sets in its ``custom_graphgym``."""
    root = str(Path(__file__).resolve().parents[2])
    (folder / "custom_graphgym" / "train" / "gkd.py").write_text("import gkd_plugin  # noqa\n" + TOY.format(root=root))


def toy_values(**groups: Any) -> dict[str, Any]:
    return {**values(kd={"preset": "mutual"}, **groups), "kd_structure": {"weight": 0.0}}


@pytest.mark.parametrize("flag", ["separate", "joined"])
def test_unlike_students_from_a_file_beside_the_configuration(flag: str, host_program: Path) -> None:
    toy_program(host_program)
    (host_program / "configs").mkdir()
    content = toy_values(dataset={"format": "toy", "name": "nodes"})
    content["kd"]["cohort"] = "wide"
    (host_program / "configs" / "run.yaml").write_text(yaml.safe_dump(content))
    (host_program / "configs" / "wide.yaml").write_text("gnn: {dim_inner: 16, layer_type: gatconv}\n")
    words = ["--cfg", "configs/run.yaml"] if flag == "separate" else ["--cfg=configs/run.yaml"]
    execute([sys.executable, "main.py", *words], host_program)
    answers = json.loads((host_program / "results/run/0/result.json").read_text())
    assert answers["parameters"][0] < answers["parameters"][1]


def test_regression_ends_with_the_host_s_tables(host_program: Path) -> None:
    """The host's ``metric_best: auto`` asks for an accuracy, also where there is none."""
    toy_program(host_program)
    dataset = {"format": "toy", "name": "regression", "task_type": "regression"}
    content = toy_values(dataset=dataset, model={"loss_fun": "mse"})
    (host_program / "run.yaml").write_text(yaml.safe_dump(content))
    execute([sys.executable, "main.py", "--cfg", "run.yaml", "--repeat", "2"], host_program)
    agg = host_program / "results/run/agg"
    val = [json.loads(line)["mae"] for line in (host_program / "results/run/0/val/stats.json").read_text().splitlines()]
    other = [
        json.loads(line)["mae"] for line in (host_program / "results/run/1/val/stats.json").read_text().splitlines()
    ]
    best = json.loads((agg / "val" / "best.json").read_text())
    assert best["mae"] == pytest.approx((min(val) + min(other)) / 2, abs=2e-4)
    assert (agg / "test" / "best.json").is_file()
    (host_program / "grid").mkdir()
    (host_program / "results/run").rename(host_program / "grid" / "base-a=1")
    execute([sys.executable, "agg_batch.py", "--dir", "grid", "--metric", "mae"], host_program)
    assert (host_program / "grid" / "agg" / "test_best.csv").is_file()


def test_a_full_disk_in_a_host_program_is_one_message(host_program: Path) -> None:
    toy_program(host_program)
    extra = "import os\ndef full(descriptor):\n    raise OSError(28, 'No space left on device')\nos.fsync = full\n"
    with open(host_program / "custom_graphgym" / "train" / "gkd.py", "a") as file:
        file.write(extra)
    (host_program / "run.yaml").write_text(yaml.safe_dump(toy_values(dataset={"format": "toy", "name": "nodes"})))
    done = execute([sys.executable, "main.py", "--cfg", "run.yaml"], host_program, expect=1)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


MANY = """
import gkd_plugin
from torch_geometric.graphgym.logger import Logger
plain = Logger.classification_multi
def more(self):  # a metric of the fork's, which the loop does not measure, best in the first epoch
    self.asked = getattr(self, 'asked', 0) + 1
    return {**plain(self), 'auc': 1 / self.asked}
Logger.classification_multi = more
"""


CUT = """
import os
from torch_geometric.graphgym.logger import Logger
from torch_geometric.graphgym.config import cfg
write = Logger.write_epoch
def cut(self, epoch):
    write(self, epoch)
    if 'x=2' in cfg.out_dir and cfg.seed == 2 and epoch == 1:
        os._exit(9)
Logger.write_epoch = cut
"""


def test_the_program_aggregates_the_epoch_that_was_selected(host_program: Path) -> None:
    """Where its loggers measure more, ``metric_best: auto`` would pick another one."""
    toy_program(host_program)
    with open(host_program / "custom_graphgym" / "train" / "gkd.py", "a") as file:
        file.write(MANY)
    content = toy_values(dataset={"format": "toy", "name": "nodes"}, optim={"max_epoch": 8, "base_lr": 0.05})
    (host_program / "run.yaml").write_text(yaml.safe_dump(content))
    execute([sys.executable, "main.py", "--cfg", "run.yaml"], host_program)
    folder = host_program / "results/run"
    test = json.loads((folder / "0/test/stats.json").read_text())
    best = json.loads((folder / "agg/val/best.json").read_text())
    assert "auc" in test and test["epoch"] > 0
    assert best["epoch"] == test["epoch"]


@pytest.mark.parametrize("earlier", ["ours", "ours, interrupted", "another program's"])
def test_a_seed_folder_used_again_holds_one_run(earlier: str, host_program: Path) -> None:
    toy_program(host_program)
    # also in an environment without tensorboardX, where the host's aggregation would fail
    content = toy_values(dataset={"format": "toy", "name": "nodes"}, optim={"max_epoch": 3}, tensorboard_agg=True)
    path, folder = host_program / "run.yaml", host_program / "results/run/0"
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "main.py", "--cfg", "run.yaml"]
    first = execute(command, host_program)
    said = "tensorboard_agg is switched off: tensorboardX is not installed" in first.stdout + first.stderr
    assert said == (find_spec("tensorboardX") is None)
    (folder / "student_7.pt").write_bytes(b"stale")
    if earlier == "ours, interrupted":
        (folder / "result.json").unlink()
    if earlier == "another program's":
        (folder / "plan.yaml").unlink()
    execute([*command, "train.auto_resume", "True", "optim.max_epoch", "6"], host_program)
    found = numbers(folder)
    epochs = {split: [row["epoch"] for row in found[f"{split}/stats.json"]] for split in ("train", "val", "test")}
    if earlier == "another program's":  # not ours to remove
        assert epochs["val"] == [0, 1, 2, 0, 1, 2, 3, 4, 5] and (folder / "student_7.pt").is_file()
        return
    assert epochs["train"] == epochs["val"] == list(range(6)) and len(epochs["test"]) == 1
    assert len(list(folder.glob("student_*.pt"))) == 1
    agg = json.loads((folder.parent / "agg/test/best.json").read_text())
    assert agg["epoch"] == epochs["test"][0]


def test_a_run_that_was_cut_short_is_in_none_of_the_host_s_tables(host_program: Path) -> None:
    """``agg_batch.py`` reads the folders ``agg`` of all runs; a table of the first seeds alone would be a row among whole ones."""
    toy_program(host_program)
    with open(host_program / "custom_graphgym" / "train" / "gkd.py", "a") as file:
        file.write(CUT)
    content = toy_values(dataset={"format": "toy", "name": "nodes"}, optim={"max_epoch": 3})
    for name in ("grid-x=1", "grid-x=2"):
        (host_program / f"{name}.yaml").write_text(yaml.safe_dump({**content, "out_dir": "grid"}))
    command = [sys.executable, "main.py", "--repeat", "2", "--cfg"]
    execute([*command, "grid-x=1.yaml"], host_program)
    execute([*command, "grid-x=2.yaml"], host_program, expect=9)
    first, second = (host_program / "grid" / name for name in ("grid-x=1", "grid-x=2"))
    assert (first / "agg/test/best.json").is_file() and (first / "1/result.json").is_file()
    assert (second / "0/result.json").is_file() and not (second / "1/result.json").exists()
    assert not (second / "agg").exists() or not list((second / "agg").iterdir())
    execute([sys.executable, "agg_batch.py", "--dir", "grid"], host_program)
    with open(host_program / "grid/agg/test_best.csv") as file:
        assert [row["x"] for row in csv.DictReader(file)] == ["1"]


@pytest.mark.parametrize(
    ("where", "plan", "kept"),
    [("inside", True, False), ("inside", False, True), ("elsewhere", True, True), ("nowhere", True, True)],
)
def test_what_an_earlier_run_left_goes_where_loggers_write_into_the_folder(
    where: str, plan: bool, kept: bool, tmp_path: Path
) -> None:
    folder, other = tmp_path / "run" / "0", tmp_path / "other"
    names = ("val/stats.json", "test/stats.json", "student_1.pt", "student_1.yaml", "result.json", "diagnostics.json")
    for name in (*names, "mine.txt", "student/mine.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("earlier")
    if plan:
        (folder / "plan.yaml").write_text("{}")
    place = {"inside": folder, "elsewhere": other}.get(where)
    logs = [SimpleNamespace(out_dir=str(place / split)) for split in ("val", "test")] if place else [object()]
    clear_earlier(folder, logs)
    assert [(folder / name).is_file() for name in names] == [kept] * len(names)
    assert (folder / "mine.txt").is_file() and (folder / "student/mine.pt").is_file()
