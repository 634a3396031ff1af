"""Graphs that do not fit one batch: time and memory of an epoch in parts, with a teacher that stays on the disk.

    python benchmarks/large_graphs.py --data ../shared/data
    python benchmarks/large_graphs.py --data ../shared/data --cases physics arxiv   # the largest takes half an hour

A GCN of two layers of width 64 learns from ``soft_target`` and ``lsp`` together; its teacher is a ``.safetensors`` file
of logits and two layers of width 128, of which each batch reads its rows. Coauthor Physics; a generated graph of
OGBN-Arxiv's size (169,343 nodes, 2.3 million directed edges, 128 features, 40 classes), and one ten times larger. Nodes of
a class have features around a common mean and 6 of 10 of their edges among themselves. Evaluation sees the whole graph after
every epoch, its messages in parts (``kd.eval_memory``). Each row is a process of its own, from reading the data on; memory
is the largest that the process held of its own (``RssAnon``, read every 20 ms; pages of the teacher's file are the
system's to take back).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from studies import ROOT, markdown, prepare
from turns import describe_machine

SIZES = {"arxiv": (169_343, 2_332_486), "arxiv_ten_times": (1_693_430, 23_324_860)}
FEATURES, CLASSES, TEACHER = 128, 40, 128
CASES = {"physics": 4.0, "arxiv": 4.0, "arxiv_ten_times": 12.0}  # GiB that each may take
BATCH = {"physics": 4_000, "arxiv": 20_000, "arxiv_ten_times": 20_000}


def generate(nodes: int, edges: int) -> Any:
    """A graph whose classes can be told by features and by neighbours."""
    import torch
    from torch_geometric.data import Data

    draw = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (nodes,), generator=draw)
    x = torch.randn(CLASSES, FEATURES, generator=draw)[y].mul_(0.3).add_(torch.randn(nodes, FEATURES, generator=draw))
    order, sizes = y.sort().indices, torch.bincount(y, minlength=CLASSES)
    u, v = torch.randint(nodes, (2, edges // 2), generator=draw)
    own = torch.rand(len(u), generator=draw) < 0.6
    place = (torch.rand(len(u), generator=draw, dtype=torch.double) * sizes[y[u]]).long()
    v = torch.where(own, order[(sizes.cumsum(0) - sizes)[y[u]] + place], v)
    part = torch.rand(nodes, generator=draw)
    masks = {"train_mask": part < 0.5, "val_mask": (part >= 0.5) & (part < 0.7), "test_mask": part >= 0.7}
    return Data(x=x, y=y, edge_index=torch.stack((torch.cat((u, v)), torch.cat((v, u)))), **masks)


def make(case: str, folder: Path, data: str | None) -> tuple[dict[str, Any], int, int]:
    """The data and the teacher's file in ``folder``: the group ``dataset``, and the numbers of nodes and classes."""
    import torch
    from safetensors.torch import save_file

    if case == "physics":
        where = prepare(data, folder, ["CoauthorPhysics"])
        dataset, nodes, classes = {"name": "CoauthorPhysics", "dir": str(where)}, 34_493, 5
    else:
        (folder / case).mkdir()
        torch.save(generate(*SIZES[case]), folder / case / "data.pt")
        dataset, nodes, classes = {"name": case, "dir": str(folder)}, SIZES[case][0], CLASSES
    torch.manual_seed(0)
    rows = {"logits": torch.randn(nodes, classes)}
    rows |= {f"layer_{number}": torch.randn(nodes, TEACHER) for number in (1, 2)}
    save_file(rows, folder / "teacher.safetensors")
    return dataset, nodes, classes


def work(case: str, folder: Path, dataset: dict[str, Any], epochs: int) -> None:
    """What a process of its own measures and prints."""
    import gkd_plugin

    held: list[int] = []
    stamps: list[tuple[float, float]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            held.append(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))

    def watch(_epoch: int, _epochs: int, score: float) -> None:
        stamps.append((time.perf_counter(), score))

    values = {
        "out_dir": str(folder),
        "num_threads": 1,
        "dataset": {"format": "gkd", "task": "node", "task_type": "classification", **dataset},
        "train": {
            "mode": "distill",
            "eval_period": 1,
            "enable_ckpt": False,
            "sampler": "random_node",
            "train_parts": max(
                2, round({"physics": 34_493, **{k: v[0] for k, v in SIZES.items()}}[case] / BATCH[case])
            ),
        },
        "model": {"type": "gcn"},
        "gnn": {"layers_mp": 2, "dim_inner": 64, "act": "relu", "dropout": 0.0, "batchnorm": False, "l2norm": False},
        "optim": {"base_lr": 0.01, "weight_decay": 0.0, "scheduler": "none", "max_epoch": epochs},
        "kd": {"teacher": "teacher.safetensors", "eval_memory": 0.5},
        "kd_response": {"weight": 0.1, "nodes": "all"},
        "kd_structure": {"weight": 1},
    }
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    began = time.perf_counter()
    os.chdir(folder)
    gkd_plugin.run(values, name="run", quiet=True, fresh=True, watch=watch)
    done.set()
    times = [b[0] - a[0] for a, b in itertools.pairwise(stamps)]
    print(json.dumps([stamps[0][0] - began, median(times), max(held) / 2**20, stamps[-1][1]]))


def main() -> None:
    """Runs all cases, each in a process of its own, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("GKD_DATA_DIR")
    parser.add_argument("--data", default=folder, help="folder with prepare.py (default: download)")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--work", nargs=3, metavar=("CASE", "FOLDER", "DATASET"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], Path(asked.work[1]), json.loads(asked.work[2]), asked.epochs)
        return
    rows = []
    for case in asked.cases:
        with tempfile.TemporaryDirectory() as scratch:
            dataset, nodes, _ = make(case, Path(scratch), asked.data)
            command = [
                sys.executable,
                __file__,
                "--epochs",
                str(asked.epochs),
                "--work",
                case,
                scratch,
                json.dumps(dataset),
            ]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        first, epoch, memory, score = json.loads(done.stdout.splitlines()[-1])
        bar = CASES[case]
        verdict = [f"{bar:g} GiB", "yes" if memory <= bar else "no"]
        rows.append(
            [case, f"{nodes:,}", f"{first:.0f} s", f"{epoch:.1f} s", f"{memory:.2f} GiB", *verdict, f"{score:.3f}"]
        )
    print(
        markdown(
            ["graph", "nodes", "to the end of the first epoch", "an epoch", "memory", "bar", "met", "validation, last"],
            rows,
        )
    )
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
