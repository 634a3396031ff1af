"""LSP between unlike graphs: teacher and student see the digits as nearest-neighbour graphs of different k.

    python benchmarks/dynamic_graphs.py

The host's GCN, three layers, width 64 teaches width 8; 5 seeds. Weight and scale of each way are chosen by validation.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from studies import Job, arguments, markdown, over, percent, prepare, seconds, study, validation

SEEDS = 5
GRAPHS = (("digits", "digits_k3"), ("digits_k3", "digits"))  # what the teacher sees, what the student sees
WEIGHTS, SCALES = ("1", "10", "100"), ("1", "median")
DOMAINS = {"edges": "the student's edges", "union": "the union of both"}


def neighbours(name: str) -> str:
    """The k of a data set's name."""
    return name.removeprefix("digits").removeprefix("_k") or "10"


def jobs() -> list[Job]:
    """Every student."""
    narrow = ("gnn.dim_inner", "8", "kd.teacher_cfg", "none")
    found = [
        Job("digits/lsp.yaml", f"{s}_alone", SEEDS, (*narrow, "kd.preset", "supervised", "dataset.name", s))
        for _, s in GRAPHS
    ]
    for (teacher, student), domain, weight, scale in product(GRAPHS, DOMAINS, WEIGHTS, SCALES):
        keys = ("dataset.name", student, "kd.teacher", f"{teacher}_teacher", "kd_structure.domain", domain)
        strength = ("kd_structure.weight", weight, "kd_structure.kernel_scale", scale)
        name = f"{student}_{domain}_{weight}_{scale}"
        found.append(Job("digits/lsp.yaml", name, SEEDS, (*narrow, *keys, *strength)))
    return found


def main() -> None:
    """Runs everything and prints the table."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "dynamic_graphs"
    datasets = prepare(None, Path(asked.out), [])
    graphs = {name for pair in GRAPHS for name in pair}
    wide = [Job("digits/teacher.yaml", f"{name}_teacher", SEEDS, ("dataset.name", name)) for name in sorted(graphs)]
    teachers = study(wide, out, datasets, asked.workers)
    reports = study(jobs(), out, datasets, asked.workers, asked.only)
    rows = []
    for teacher, student in GRAPHS:
        ks = f"{neighbours(teacher)}, {neighbours(student)}"
        alone = reports[f"{student}_alone"]
        rows.append([ks, "teacher", "-", percent(teachers[f"{teacher}_teacher"].tests("first")), "-", "-"])
        rows.append([ks, "labels only", "-", percent(alone.tests("first")), "-", seconds(alone)])
        for domain, label in DOMAINS.items():
            tried = [f"{student}_{domain}_{weight}_{scale}" for weight, scale in product(WEIGHTS, SCALES)]
            best = max(tried, key=lambda name: validation(reports[name]))
            report = reports[best]
            _, weight, scale = best.rsplit("_", 2)
            cells = [percent(report.tests("first")), over(report, alone), seconds(report)]
            rows.append([ks, f"LSP, {label}", f"{weight}, {scale}", *cells])
    head = ("k of teacher, student", "student", "weight, scale", "test accuracy", "paired difference [95 %]", "s")
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
