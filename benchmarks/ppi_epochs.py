"""An epoch on PPI (20 graphs for training, batches of two) of attention networks of published sizes: time and memory.

    python benchmarks/ppi_epochs.py --data ../shared/data --device cuda

Each runs for some seconds through ``gkd_plugin.run``, validation and rows included. On one CPU an epoch takes from ten seconds
to over a minute.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studies import ROOT, markdown, prepare

sys.path.insert(0, str(ROOT))
PAIR: dict[str, Any] = {"gnn": {"dim_inner": 64}, "gkd_model": {"heads": 3, "out_heads": 3}}
CASES: dict[str, dict[str, Any]] = {
    "teacher: GAT 3 layers, 256 x 4": {
        "gnn": {"layers_mp": 3, "dim_inner": 256},
        "gkd_model": {"heads": 4, "out_heads": 6, "residual": "pyg"},
    },
    "student: GAT 4 layers, 68 x 2": {},
    "control: 2 GAT of 4 layers, 64 x 3": {**PAIR, "kd": {"students": 2, "preset": "supervised"}},
    "alignahead, the same": {**PAIR, "kd": {"students": 2, "preset": "alignahead"}},
    "alignahead_pp, the same": {**PAIR, "kd": {"students": 2, "preset": "alignahead_pp"}},
}


class Enough(BaseException):
    """The time is over; no ``Exception``, so that the run ends."""


def configure(asked: argparse.Namespace, datasets: Path, out: str, **groups: Any) -> dict[str, Any]:
    """A configuration of docs/models.md with other sizes."""
    values: dict[str, Any] = {
        "out_dir": out,
        "accelerator": asked.device,
        "devices": 1,
        "num_threads": 1,
        "dataset": {
            "format": "gkd",
            "name": "PPI",
            "task": "node",
            "task_type": "classification_multilabel",
            "dir": str(datasets),
        },
        "train": {"mode": "distill", "batch_size": 2, "eval_period": 1, "enable_ckpt": False},
        "custom_metrics": ["f1_micro"],
        "metric_best": "f1_micro",
        "metrics": {"f1_logit_threshold": 0.0},
        "model": {"type": "gat"},
        "gnn": {"layers_mp": 4, "dim_inner": 68, "act": "elu", "batchnorm": False, "l2norm": False, "dropout": 0.0},
        "gkd_model": {"heads": 2, "out_heads": 2, "residual": "dgl"},
        "optim": {"base_lr": 0.005, "weight_decay": 0.0, "scheduler": "none", "max_epoch": 500},
    }
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group}
    return values


def main() -> None:
    """Runs all and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each")
    asked = parser.parse_args()
    import torch

    import gkd_plugin

    table = []
    with tempfile.TemporaryDirectory() as out:
        datasets = prepare(asked.data, Path(out), ["PPI"])
        for name, groups in {"": {}, **CASES}.items():
            stamps: list[tuple[float, float]] = []

            def watch(_epoch: int, _epochs: int, score: float, stamps: list[tuple[float, float]] = stamps) -> None:
                stamps.append((time.perf_counter(), score))
                if len(stamps) > 2 and stamps[-1][0] - stamps[0][0] > asked.seconds:
                    raise Enough

            if asked.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                config = configure(asked, datasets, out, **groups)
                gkd_plugin.run(config, name=f"run{len(table)}", quiet=True, fresh=True, watch=watch)
            except Enough:
                pass
            if name:  # the first loads the data
                epoch = statistics.median(b[0] - a[0] for a, b in itertools.pairwise(stamps))
                memory = f"{torch.cuda.max_memory_allocated() / 2**20:.0f}" if asked.device == "cuda" else "-"
                table.append(
                    [name, f"{epoch:.2f}", str(len(stamps)), f"{max(score for _, score in stamps):.3f}", memory]
                )
    print(markdown(["PPI, rebuilt", "epoch, s", "epochs", "best micro-F1 on validation by then", "peak MiB"], table))
    where = torch.cuda.get_device_name() if asked.device == "cuda" else platform.machine()
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric"))
    print(f"\n{where}, Python {platform.python_version()}, {names}")


if __name__ == "__main__":
    main()
