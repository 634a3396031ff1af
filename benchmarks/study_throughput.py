"""A grid of supervised configurations on Cora: the host's main program, one process each, next to warm processes of ours.

    python benchmarks/study_throughput.py --data ../shared/data --host ../shared/host

48 configurations of a GCN (depth, width up to 16, dropout, rate, activation), two seeds each, 100 epochs, two at a time with one
thread each. The host's side is what its `parallel.sh` starts, without the second that it sleeps after every start. Ours
is `gkd grid` from its start to its report: two workers that are imported once, with dense input (numbers as the host's) and with
`kd.sparse_input`. `--quick` takes 4 of the configurations: it shows that all works, and little about times.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from studies import ROOT, markdown, prepare
from torch_geometric.datasets import Planetoid

AT_ONCE = 2
SEEDS = 2
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
Grid: TypeAlias = dict[tuple[str, str], Sequence[Any]]
GRID: Grid = {
    ("gnn", "layers_mp"): (2, 3),
    ("gnn", "dim_inner"): (4, 8, 16),
    ("gnn", "dropout"): (0.0, 0.5),
    ("gnn", "act"): ("relu", "prelu"),
    ("optim", "base_lr"): (0.01, 0.05),
}


def make_base(datasets: Path, epochs: int) -> dict[str, Any]:
    """What all configurations share, as in a YAML file."""
    return {
        "tensorboard_agg": False,
        "accelerator": "cpu",
        "num_threads": 1,
        "dataset": {
            "format": "PyG",
            "name": "Cora",
            "dir": str(datasets),
            "task": "node",
            "task_type": "classification",
        },
        "train": {"eval_period": 1, "enable_ckpt": False},
        "gnn": {"layer_type": "gcnconv", "stage_type": "stack", "batchnorm": False, "l2norm": False},
        "optim": {"max_epoch": epochs, "scheduler": "none"},
    }


def list_configurations(base: dict[str, Any], grid: Grid) -> list[dict[str, Any]]:
    """Every configuration of the grid."""
    found = []
    for choice in itertools.product(*grid.values()):
        values = copy.deepcopy(base)
        for (group, key), value in zip(grid, choice, strict=True):
            values[group][key] = value
        found.append(values)
    return found


def run_hosts(files: Sequence[Path], folder: Path, programs: Path) -> None:
    """The host's main program, a process for each file."""
    (folder / "main.py").write_text((programs / "main.py").read_text())
    (folder / "custom_graphgym").mkdir()
    (folder / "custom_graphgym" / "__init__.py").touch()  # nothing of the user's

    def start(file: Path) -> None:
        words = [sys.executable, "main.py", "--cfg", str(file), "--repeat", str(SEEDS)]
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(start, files))


def run_grid(base: Path, grid: Path, folder: Path, *words: str) -> None:
    """``gkd grid``, report and tables included."""
    options = [
        "--repeat",
        str(SEEDS),
        "--workers",
        str(AT_ONCE),
        "--threads",
        "1",
        "--no-controls",
        "--name",
        "results",
    ]
    command = [sys.executable, "-m", "gkd_cli", "grid", "--config", str(base), "--grid", str(grid), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "out_dir", str(folder), *words], cwd=folder, check=True, env=environment)


def measure(side: Callable[..., None], *args: Any) -> tuple[float, float]:
    """Wall time, and CPU time of the processes that it started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            _SUBREAPER, 1, 0, 0, 0
        )  # the process of which workers are copies is then ours, at its end
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    side(*args)
    wall = time.perf_counter() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def read_losses(folder: Path) -> dict[tuple[str, ...], float]:
    """The training loss of every configuration, seed and epoch."""
    found = {}
    for path in sorted(folder.glob("*/[0-9]*/train/stats.json")):
        own = yaml.safe_load((path.parents[2] / "config.yaml").read_text())
        choice = [str(own[group][key]) for group, key in GRID]
        for row in map(json.loads, path.read_text().splitlines()):
            found[(*choice, path.parts[-3], str(int(row["epoch"])))] = float(row["loss"])
    return found


def compare(ours: dict[tuple[str, ...], float], theirs: dict[tuple[str, ...], float]) -> str:
    """How many losses are the same, and the largest difference."""
    shared = ours.keys() & theirs.keys()
    same = sum(ours[name] == theirs[name] for name in shared)
    largest = max(abs(ours[name] - theirs[name]) for name in shared)
    return f"{same} of {len(shared)} equal, largest difference {largest:.1g}"


def main() -> None:
    """Runs the three sides one after another and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("GKD_HOST_DIR", str(ROOT / "../shared/host")),
        help="folder of the host's main.py",
    )
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="4 configurations")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    grid = (
        {key: values[:2] if number < 2 else values[:1] for number, (key, values) in enumerate(GRID.items())}
        if asked.quick
        else GRID
    )
    with tempfile.TemporaryDirectory() as scratch:
        datasets = prepare(asked.data, Path(scratch), ["Cora"]).resolve()
        Planetoid(str(datasets / "Cora"), "Cora")  # two processes of the host would write it at once, and one fail
        base, lines = Path(scratch) / "base.yaml", Path(scratch) / "grid.txt"
        values = make_base(datasets, asked.epochs)
        base.write_text(json.dumps(values))  # which is YAML
        lines.write_text("".join(f"{group}.{key} {key} {list(some)}\n" for (group, key), some in grid.items()))
        files = []
        for number, each in enumerate(list_configurations(values, grid)):
            files.append(Path(scratch) / f"c{number}.yaml")
            files[-1].write_text(json.dumps(each))
        sides: list[tuple[str, Callable[[Path], None]]] = [
            (
                "host's main program, a process each",
                lambda folder: run_hosts(files, folder, Path(asked.host).resolve()),
            ),
            ("`gkd grid`", lambda folder: run_grid(base, lines, folder)),
            ("`gkd grid`, `kd.sparse_input`", lambda folder: run_grid(base, lines, folder, "kd.sparse_input", "true")),
        ]
        times, losses = [], []
        for number, (_, side) in enumerate(sides):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            times.append(measure(side, folder))
            losses.append(read_losses(folder / "results"))
    rows = []
    for (name, _), (wall, cpu), found in zip(sides, times, losses, strict=True):
        ratios = (f"{times[0][0] / wall:.1f}", f"{times[0][1] / cpu:.1f}")
        rows.append([name, f"{wall:.0f} s", f"{cpu:.0f} s", *ratios, compare(found, losses[0])])
    print(f"{len(files)} configurations x {SEEDS} seeds, {asked.epochs} epochs, {AT_ONCE} at a time, one thread each")
    print(markdown(["", "wall", "CPU", "faster, wall", "faster, CPU", "training losses by epoch"], rows))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "pytorch-lightning"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
