"""How time and memory grow: with the graph under a structure term, and with the number of students.

    python benchmarks/growth.py --data ../shared/data

Random graphs of average degree 14 with 64 features, two GCNs of two layers of width 64 under ``alignahead``; then 1 and 8
students on PubMed. Each row is a process of its own; memory is what training adds to the process as it is before the
first epoch (peak of the resident set), with an allocator that gives freed blocks back at once, so that the peak is what
is in use; times are taken with the allocator as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from studies import ROOT, markdown, prepare
from turns import Run, describe_machine, gcn, parse

SIZES, DEGREE, WIDTH = (10_000, 50_000, 170_000), 14, 64
STUDENTS, LINEAR, MEMORY = 8, 1.2, 8.5  # how much more than in proportion is allowed; and for 8 students
TIGHT = {"MALLOC_MMAP_THRESHOLD_": "262144"}


def make_graph(nodes: int) -> Any:
    """A data set of one random graph."""
    import torch
    from torch_geometric.data import Data, InMemoryDataset

    class Random(InMemoryDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            ends = torch.randint(nodes, (2, nodes * DEGREE // 2))
            masks = {
                f"{part}_mask": torch.arange(nodes) % 4 == place for place, part in enumerate(("train", "val", "test"))
            }
            edges = torch.cat([ends, ends.flip(0)], dim=1)
            data = Data(x=torch.randn(nodes, WIDTH), edge_index=edges, y=torch.randint(5, (nodes,)), **masks)
            self.data, self.slices = self.collate([data])

    return Random()


def read_memory(key: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def work(nodes: int, students: int, datasets: str, epochs: int) -> None:
    """What a process of its own measures and prints."""
    from torch_geometric.graphgym import register

    words = ("kd.preset", "alignahead", "kd.students", str(students)) if students > 1 else ()
    if nodes:
        register.register_loader("random", lambda *_: make_graph(nodes))
        words = (*words, "dataset.format", "random")
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(gcn(Path(datasets), "PubMed", WIDTH, *words), Path(scratch))
        before = read_memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        seconds = []
        for _ in range(epochs):
            began = time.process_time()
            run()
            seconds.append(time.process_time() - began)
        added = read_memory("VmHWM") - before
    print(json.dumps([median(seconds[1:] or seconds), added]))


def measure(nodes: int, students: int, datasets: Path) -> tuple[float, float]:
    """Seconds of an epoch, and MiB that training adds (of graphs drawn at random: not for one student)."""
    found = []
    for epochs, further in ((3 if nodes < SIZES[-1] else 2, {}), (1, TIGHT)):
        command = [sys.executable, __file__, "--work", str(nodes), str(students), str(datasets), str(epochs)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | further
        if further and nodes and students == 1:
            return found[0][0], float("nan")
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found[0][0], found[1][1]


def main() -> None:
    """Measures one after another and prints one table."""
    asked = parse(str(__doc__), rounds=1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        datasets = prepare(asked.data, Path(scratch), ["PubMed"])
        for students, what in ((2, "alignahead, 2 students"), (1, "labels only")):
            first = (1.0, 1.0)
            for nodes in SIZES if students > 1 else (SIZES[0], SIZES[-1]):
                seconds, added = measure(nodes, students, datasets)
                first = (seconds, added) if nodes == SIZES[0] else first
                grown = [now / (base * nodes / SIZES[0]) for now, base in zip((seconds, added), first, strict=True)]
                bar = [f"{LINEAR:g}", "yes" if max(grown) <= LINEAR else "no"]
                verdict = ["-", "-"] if nodes == SIZES[0] or students == 1 else bar
                shown = [f"{seconds:.2f} s", f"{added:.0f} MiB", *(f"{value:.2f}" for value in grown)]
                shown = [text.replace("nan MiB", "-").replace("nan", "-") for text in shown]
                rows.append([f"{nodes} nodes, {what}", *shown, *verdict])
        one, many = measure(0, 1, datasets), measure(0, STUDENTS, datasets)
        rows.append(["PubMed, 1 student", f"{one[0]:.2f} s", f"{one[1]:.0f} MiB", "-", "-", "-", "-"])
        more = many[1] / one[1]
        met = "yes" if more <= MEMORY else "no"
        rows.append(
            [
                f"PubMed, {STUDENTS} students",
                f"{many[0]:.2f} s",
                f"{many[1]:.0f} MiB",
                f"{many[0] / (STUDENTS * one[0]):.2f}",
                f"{more:.2f} in all",
                f"{MEMORY:g}",
                met,
            ]
        )
    print(
        markdown(["", "epoch", "training adds", "time over proportion", "memory over proportion", "bar", "met"], rows)
    )
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    if "--work" in sys.argv:
        parse_quietly = sys.argv[2:]
        sys.argv = sys.argv[:1]
        parse("", rounds=1)
        work(int(parse_quietly[0]), int(parse_quietly[1]), parse_quietly[2], int(parse_quietly[3]))
    else:
        main()
