"""Seeds of one run, and students of one cohort, stacked (``kd.stack``) and one at a time.

    python benchmarks/stacks.py --data ../shared/data
    python benchmarks/stacks.py --data ../shared/data --device cuda

GCN of 2 layers on Cora with dropout. Both sides run in turn in one process; an epoch is training, evaluation and rows.
On a CPU times are those of one thread's CPU, on a GPU those of the clock. With ``--processes`` several processes share the
GPU, each with one run at a time, which needs nothing stacked.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studies import ROOT, markdown, prepare
from turns import count

sys.path.insert(0, str(ROOT))
SEEDS, STUDENTS = 16, 8
COHORT = ("kd.students", str(STUDENTS), "kd.update", "joint")
CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    f"{SEEDS} seeds": (SEEDS, ("kd.preset", "supervised")),
    f"{SEEDS} seeds, sparse input": (SEEDS, ("kd.preset", "supervised", "kd.sparse_input", "true")),
    f"cohort of {STUDENTS}": (1, ("kd.preset", "supervised", *COHORT)),
    f"cohort of {STUDENTS}, alignahead": (1, ("kd.preset", "alignahead", *COHORT)),
}


def time_run(
    asked: argparse.Namespace, out: str, datasets: Path, width: int, words: tuple[str, ...], stack: bool
) -> float:
    """Milliseconds of all runs of a case for one epoch."""
    import gkd_plugin

    clock = time.process_time if asked.device == "cpu" else time.perf_counter
    seeds, keys = words[0], words[1:]
    stamps: list[float] = []
    gkd_plugin.run(
        ROOT / "graphgym_configs" / "cora" / "supervised.yaml",
        repeat=int(seeds) if stack else 1,
        overrides=[
            *("dataset.dir", str(datasets), "out_dir", out, "num_threads", "1", "train.enable_ckpt", "false"),
            *("accelerator", asked.device, "devices", "1", "gnn.dim_inner", str(width), "gnn.dropout", "0.5"),
            *("optim.max_epoch", str(asked.epochs), *keys, "kd.stack", str(stack).lower()),
        ],
        name=f"{'stacked' if stack else 'alone'}",
        quiet=True,
        fresh=True,
        watch=lambda *_: stamps.append(clock()),
    )
    between = [later - earlier for earlier, later in itertools.pairwise(stamps[3:])]
    return 1000 * statistics.median(between) * (1 if stack else int(seeds))


def share_gpu(processes: int, datasets: Path, epochs: int) -> list[str]:
    """A row: epochs a second of several processes at a time over those of one."""
    script = (
        "import sys, time, gkd_plugin; stamps = [];"
        "gkd_plugin.run(sys.argv[1], overrides=sys.argv[3:], name=sys.argv[2], quiet=True, fresh=True,"
        " watch=lambda *_: stamps.append(time.perf_counter()));"
        "print(1000 * (stamps[-1] - stamps[len(stamps) // 2]) / (len(stamps) - 1 - len(stamps) // 2))"
    )
    found = {}
    with tempfile.TemporaryDirectory() as out:
        words = [
            "dataset.dir",
            str(datasets),
            "out_dir",
            out,
            "accelerator",
            "cuda",
            "devices",
            "1",
            "num_threads",
            "1",
        ]
        words += ["train.enable_ckpt", "false", "gnn.dim_inner", "16", "optim.max_epoch", str(epochs)]
        config = str(ROOT / "graphgym_configs" / "cora" / "supervised.yaml")
        for count in (1, processes):
            command = [sys.executable, "-c", script, config]
            environment = os.environ | {
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            }
            running = [
                subprocess.Popen([*command, f"p{n}", *words], stdout=subprocess.PIPE, env=environment, text=True)
                for n in range(count)
            ]
            found[count] = statistics.median(float(each.communicate()[0].split()[-1]) for each in running)
    gain = processes * found[1] / found[processes]
    return [
        f"{processes} processes on one GPU",
        "16",
        f"{processes * found[1]:.1f}",
        f"{found[processes]:.1f}",
        f"{gain:.2f}",
        "-",
    ]


def main() -> None:
    """Measures in turns and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--processes", type=int, default=0, help="also so many processes that share the GPU")
    parser.add_argument("--datasets", type=Path, help="a dataset.dir that holds Cora")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    table = []
    with tempfile.TemporaryDirectory() as out:
        datasets = asked.datasets or prepare(asked.data, Path(out), ["Cora"])
        for width in map(int, asked.widths.split(",")):
            for name, (seeds, words) in CASES.items():
                pairs: list[tuple[float, float]] = []
                for _ in range(asked.rounds + 1):
                    sides: list[Any] = [
                        time_run(asked, out, datasets, width, (str(seeds), *words), stack) for stack in (False, True)
                    ]
                    pairs.append((sides[0], sides[1]))
                kept = pairs[1:]  # the first round loads and compiles
                alone, stacked = (statistics.median(side) for side in zip(*kept, strict=True))
                ratios = sorted(a / b for a, b in kept)
                middle = statistics.median(ratios)
                bar = 8.0 if asked.device == "cuda" else 1.5
                judged = f"{bar:g}: {'yes' if middle >= bar else 'no'}" if width == 16 else "-"
                spread = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                table.append([name, str(width), f"{alone:.1f}", f"{stacked:.1f}", spread, judged])
        if asked.processes:
            table.append(share_gpu(asked.processes, datasets, 15 * asked.epochs))
    print(markdown(["Cora, GCN 2 layers", "width", "one at a time, ms", "stacked, ms", "gain", "bar met"], table))
    where = torch.cuda.get_device_name() if asked.device == "cuda" else f"{platform.machine()}, CPU time of one thread"
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric"))
    print(f"\n{where}, Python {platform.python_version()}, {names}")


if __name__ == "__main__":
    main()
