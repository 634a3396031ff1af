"""Alignahead++ with 2 and 4 students, each beside its control cohort, and a single supervised student.

    python benchmarks/students_without_teacher.py --data ../shared/data

Public splits of Cora, CiteSeer and PubMed; GCN and GAT of the host with two layers of width 64; 5 seeds (3 on PubMed).
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from studies import Job, arguments, markdown, prepare, study

DATA = {"Cora": 5, "CiteSeer": 5, "PubMed": 3}
LAYERS = {"GCN": "gcnconv", "GAT": "gatconv"}
STUDENTS = (2, 4)


def main() -> None:
    """Runs everything and prints one table."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "students_without_teacher"
    datasets = prepare(asked.data, Path(asked.out), list(DATA))
    jobs = []
    for (data, seeds), (name, layer) in product(DATA.items(), LAYERS.items()):
        kind = ("gnn.layer_type", layer)
        jobs.append(Job(f"{data.lower()}/supervised.yaml", f"{data}_{name}_supervised", seeds, kind))
        for students in STUDENTS:
            more = (*kind, "kd.students", str(students))
            jobs.append(
                Job(f"{data.lower()}/alignahead_pp.yaml", f"{data}_{name}_{students}", seeds, more, control=True)
            )
    reports = study(jobs, out, datasets, asked.workers, asked.only)
    rows = []
    for data, name in product(DATA, LAYERS):
        alone = reports.get(f"{data}_{name}_supervised")
        if alone is not None:
            rows.append(
                [data, name, "1, supervised", str(len(alone.results)), percent(alone.tests("first")), *["-"] * 5]
            )
        for students in STUDENTS:
            report = reports.get(f"{data}_{name}_{students}")
            if report is not None:
                rows.append(
                    [
                        data,
                        name,
                        str(students),
                        str(len(report.results)),
                        percent(report.tests("mean")),
                        percent(report.control.tests("mean")),
                        report.difference("mean").text(100),
                        report.difference("best").text(100),
                        report.difference("ensemble").text(100),
                        f"{seconds(report):.0f} / {seconds(report.control):.0f}",
                    ]
                )
    head = "data, layer, students, seeds, test accuracy % (mean over students), control, mean over students: paired difference"
    head += ", best against best, ensemble against ensemble, seconds a run / control"
    print(markdown(head.split(", ")[:5] + head.split(", ")[5:], rows))


def percent(values: list[float]) -> str:
    """``81.20 ± 0.45``."""
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"


def seconds(report: object) -> float:
    """Mean time of a run."""
    return float(np.mean([result.seconds for result in report.results]))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
