"""Alignahead++ against over-smoothing: a deep GCN next to its heads alone and to labels only, at four depths.

    python benchmarks/depth.py --data ../shared/data

Two GCN students of width 16 on the digits and on Cora (public split), 2, 4, 8 and 16 layers, 200 epochs, on seeds that no
search has seen: 10 of them on the digits with up to 4 layers, else 5. Differences are of the mean over students, paired
with labels only.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from studies import Job, arguments, markdown, over, percent, prepare, seconds, study

DEPTHS = ("2", "4", "8", "16")
DATA = {"digits": ("digits", (10, 10, 5, 5)), "Cora": ("cora", (5, 5, 5, 5))}  # seeds by depth
HEADS = ("kd_structure.weight", "0", "kd_feature.weight", "0")
METHODS = {
    "labels only": ("supervised", ()),
    "heads alone": ("alignahead_pp", HEADS),
    "alignahead_pp": ("alignahead_pp", ()),
}


def main() -> None:
    """Runs everything and prints one table."""
    asked = arguments(str(__doc__))
    datasets = prepare(asked.data, Path(asked.out), ["Cora"])
    jobs = []
    runs = [(data, folder, *pair) for data, (folder, seeds) in DATA.items() for pair in zip(DEPTHS, seeds, strict=True)]
    for (data, folder, depth, seeds), (method, (preset, keys)) in product(runs, METHODS.items()):
        network = ("gnn.dim_inner", "16", "gnn.layers_mp", depth, "kd.students", "2", "seed", "1000")
        jobs.append(Job(f"{folder}/{preset}.yaml", f"{data}_{depth}_{method.split()[0]}", seeds, (*keys, *network)))
    reports = study(jobs, Path(asked.out) / "depth", datasets, asked.workers, asked.only)
    rows = []
    for data, depth, method in product(DATA, DEPTHS, METHODS):
        report, labels = (reports.get(f"{data}_{depth}_{word.split()[0]}") for word in (method, "labels only"))
        if report is not None and labels is not None:
            gap = "-" if report is labels else over(report, labels, "mean")
            seeds = str(len(report.results))
            rows.append([data, depth, method, seeds, percent(report.tests("mean")), gap, seconds(report)])
    print(markdown(("data", "layers", "method", "seeds", "mean over students", "difference [95 %]", "s"), rows))


if __name__ == "__main__":
    main()
