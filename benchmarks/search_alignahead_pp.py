"""Chooses the weights of ``alignahead_pp`` that no paper gives, by validation scores at two depths on three data sets.

    python benchmarks/search_alignahead_pp.py --data ../shared/data

Two GCN students of width 16 (8 on the digits with 3 neighbours each), 3 and 8 layers, two seeds, 200 epochs; heads are
averaged over layers. The score of a point is the mean over data sets and depths of the validation accuracy (mean over
students, each at its own epoch). Test scores are neither read nor printed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from studies import Job, arguments, markdown, prepare, study

DATA = {
    "Cora": ("cora", "gnn.dim_inner", "16"),
    "CiteSeer": ("citeseer", "gnn.dim_inner", "16"),
    "digits_k3": ("digits", "dataset.name", "digits_k3", "gnn.dim_inner", "8", "gnn.dropout", "0"),
}
DEPTHS = ("3", "8")
POINTS = [
    ("0", "100", "0.3"),
    ("0", "100", "1"),
    ("1", "100", "0.3"),
    ("1", "100", "1"),
    ("10", "median", "1"),
]


def main() -> None:
    """Runs the grid and prints it, the best point first."""
    asked = arguments(str(__doc__))
    datasets = prepare(asked.data, Path(asked.out), ("Cora", "CiteSeer"))
    jobs = []
    for (data, (folder, *network)), depth in product(DATA.items(), DEPTHS):
        for weight, scale, heads in POINTS:
            keys = ("kd_structure.weight", weight, "kd_structure.kernel_scale", scale)
            keys = (*keys, "kd_auxiliary.weight", heads, "kd_auxiliary.layer_reduction", "mean")
            name = f"{data}_{depth}_{weight}_{scale}_{heads}"
            jobs.append(Job(f"{folder}/alignahead_pp.yaml", name, 2, (*keys, "gnn.layers_mp", depth, *network)))
    jobs.sort(key=lambda job: job.name.split("_")[-4:-3] == ["8"])
    reports = study(jobs, Path(asked.out) / "search_alignahead_pp", datasets, asked.workers, asked.only)
    rows = []
    columns = list(product(DATA, DEPTHS))
    for weight, scale, heads in POINTS:
        found = [reports.get(f"{data}_{depth}_{weight}_{scale}_{heads}") for data, depth in columns]
        scores = [score(report) for report in found]
        mean = np.nanmean(scores)
        rows.append([weight, scale, heads, *("-" if s != s else f"{s:.2f}" for s in scores), f"{mean:.2f}"])
    rows.sort(key=lambda row: -float(row[-1]))
    head = ["kd_structure.weight", "kernel_scale", "kd_auxiliary.weight"]
    print(
        markdown([*head, *(f"{data}, {depth} layers" for data, depth in columns), "mean validation accuracy %"], rows)
    )


def score(report: Any) -> float:
    """Mean validation accuracy in percent; NaN where ``--only`` left it out."""
    return float("nan") if report is None else 100 * float(np.mean([r.answers["mean"].val for r in report.results]))


if __name__ == "__main__":
    main()
