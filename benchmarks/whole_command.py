"""One supervised run from the shell's prompt to the next: the host's main program, `gkd run`, and a run in a warm process.

    python benchmarks/whole_command.py --data ../shared/data --host ../shared/host

A GCN of width 16 on Cora, 200 epochs, one thread, checkpoints off; all sides in turn, in each of the rounds. Warm is
the second and every later run of one process, which keeps the data, as the workers of a study do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from studies import ROOT, markdown, prepare
from study_throughput import make_base
from torch_geometric.datasets import Planetoid
from turns import count

BARS = {"`gkd run`": 0.65, "`gkd run`, `kd.sparse_input`": 0.45, "warm": 0.35, "warm, `kd.sparse_input`": 0.15}
WARM = """
import json, sys, time
import gkd_plugin
from gkd_plugin.study.job import keep_for_runs
import torch
torch.set_num_threads(1)
with keep_for_runs():
    for number, sparse in enumerate((False, False, True, True)):
        begin = time.perf_counter()
        gkd_plugin.run(sys.argv[1], overrides=["kd.sparse_input", sparse], name=f"warm-{number}", quiet=True)
        if number % 2:
            print(json.dumps(time.perf_counter() - begin))
"""


def main() -> None:
    """Runs all sides in turn and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    host = os.environ.get("GKD_HOST_DIR", str(ROOT / "../shared/host"))
    parser.add_argument("--host", default=host, help="folder of the host's main.py")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=count, default=5)
    asked = parser.parse_args()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        datasets = prepare(asked.data, folder, ["Cora"]).resolve()
        Planetoid(str(datasets / "Cora"), "Cora")
        base = make_base(datasets, asked.epochs)
        base["gnn"] |= {"layers_mp": 2, "dim_inner": 16}
        (folder / "cora.yaml").write_text(json.dumps(base))  # which is YAML
        shutil.copy(Path(asked.host) / "main.py", folder)
        (folder / "custom_graphgym").mkdir()
        (folder / "custom_graphgym" / "__init__.py").touch()  # nothing of the user's

        def start(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, *words], cwd=folder, env=environment, check=True, capture_output=True
            )
            return done.stdout.decode()

        def time_it(*words: str) -> list[float]:
            begin = time.perf_counter()
            start(*words)
            return [time.perf_counter() - begin]

        sides: list[tuple[tuple[str, ...], Callable[[], list[float]]]] = [
            (("host's main program",), lambda: time_it("main.py", "--cfg", "cora.yaml")),
            (("`gkd run`",), lambda: time_it("-m", "gkd_cli", "run", "cora.yaml", "--name", "exact")),
            (
                ("`gkd run`, `kd.sparse_input`",),
                lambda: time_it("-m", "gkd_cli", "run", "cora.yaml", "--name", "sparse", "kd.sparse_input", "true"),
            ),
            (
                ("warm", "warm, `kd.sparse_input`"),
                lambda: [float(line) for line in start("-c", WARM, "cora.yaml").splitlines()],
            ),
        ]
        for _ in range(asked.rounds):
            shutil.rmtree(folder / "results", ignore_errors=True)
            for names, side in sides:
                for name, seconds in zip(names, side(), strict=True):
                    times.setdefault(name, []).append(seconds)
    first = next(iter(times.values()))
    rows = []
    for name, seconds in times.items():
        ratios = [own / theirs for own, theirs in zip(seconds, first, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        found, bar = statistics.median(ratios), BARS.get(name)
        verdict = ["-", "-"] if bar is None else [f"{bar:g}", "yes" if found <= bar else "no"]
        rows.append([name, f"{statistics.median(seconds):.2f} s", f"{found:.2f}", spread, *verdict])
    print(f"GCN 16 on Cora, {asked.epochs} epochs, {asked.rounds} rounds")
    print(markdown(["", "wall, median", "to the host's", "spread", "bar", "met"], rows))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "pytorch-lightning"))
    print(f"{platform.machine()}, one thread, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
