"""Alignahead++ with 2 and 4 students, each beside its control cohort, and a single supervised student.

    python benchmarks/students_without_teacher.py --data ../shared/data

Public splits of Cora, CiteSeer and PubMed; GCN and GAT of the host with two layers of width 16, 200 epochs; 5 seeds, 3 on
PubMed, where one run of four students takes more than 2 minutes.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from studies import Job, arguments, markdown, percent, prepare, seconds, study

DATA = {"Cora": 5, "CiteSeer": 5, "PubMed": 3}
WEIGHTS = ("kd_auxiliary.weight", "0.1", "kd_auxiliary.layer_reduction", "sum")  # the preset's when this was measured
LAYERS = {"GCN": "gcnconv", "GAT": "gatconv"}
STUDENTS = (2, 4)
HEAD = (
    "data",
    "layer",
    "students",
    "seeds",
    "mean over students",
    "control",
    "paired difference of the mean [95 %]",
    "best against best",
    "ensemble against ensemble",
    "seconds a run / control",
)


def jobs() -> list[Job]:
    """Every run of the table."""
    found = []
    for (data, seeds), (name, layer) in product(DATA.items(), LAYERS.items()):
        kind = ("gnn.layer_type", layer, "gnn.dim_inner", "16")
        found.append(Job(f"{data.lower()}/supervised.yaml", f"{data}_{name}_supervised", seeds, kind))
        for students in STUDENTS:
            several = (*kind, "kd.students", str(students), *WEIGHTS)
            config = f"{data.lower()}/alignahead_pp.yaml"
            found.append(Job(config, f"{data}_{name}_{students}", seeds, several, control=True))
    return found


def main() -> None:
    """Runs everything and prints one table."""
    asked = arguments(str(__doc__))
    datasets = prepare(asked.data, Path(asked.out), list(DATA))
    reports = study(jobs(), Path(asked.out) / "students_without_teacher", datasets, asked.workers, asked.only)
    rows = []
    for data, name in product(DATA, LAYERS):
        alone = reports.get(f"{data}_{name}_supervised")
        if alone is not None:
            seeds = str(len(alone.results))
            rows.append([data, name, "1, supervised", seeds, percent(alone.tests("first")), *["-"] * 4, seconds(alone)])
        for students in STUDENTS:
            report = reports.get(f"{data}_{name}_{students}")
            if report is not None:
                rows.append([data, name, str(students), str(len(report.results)), *compared(report)])
    print(markdown(HEAD, rows))


def compared(report: Any) -> list[str]:
    """A cohort beside its control."""
    differences = [report.difference(answer).text(100) for answer in ("mean", "best", "ensemble")]
    scores = [percent(report.tests("mean")), percent(report.control.tests("mean"))]
    return [*scores, *differences, f"{seconds(report)} / {seconds(report.control)}"]


if __name__ == "__main__":
    main()
