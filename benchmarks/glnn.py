"""GLNN: a network without edges learns a GraphSAGE's soft labels on Cora, splits of CPF (20 nodes of a class, 30 for
validation, largest component), 10 seeds, every seed with a split and a teacher of its own.

    python benchmarks/glnn.py --data ../shared/data
"""

from __future__ import annotations

from pathlib import Path

from studies import Job, arguments, gap_closed, markdown, over, percent, prepare, study

SEEDS = 10


def main() -> None:
    """Runs everything and prints the table."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "glnn"
    datasets = prepare(asked.data, Path(asked.out), ["Cora"])
    teacher = study([Job("cora/teacher_sage.yaml", "sage", SEEDS)], out, datasets, asked.workers)["sage"]
    alone = ("kd.preset", "supervised", "kd.teacher_cfg", "none")
    jobs = [
        Job("cora/glnn.yaml", "mlp", SEEDS, alone),
        Job("cora/glnn.yaml", "glnn", SEEDS, ("kd.teacher", "sage", "kd.teacher_cfg", "none")),
    ]
    reports = study(jobs, out, datasets, asked.workers, asked.only)
    rows = [["SAGE, 2 layers x 128 (teacher)", percent(teacher.tests("first")), "-", "-", "80.52 ± 1.77"]]
    for name, label, published in (
        ("mlp", "MLP, labels only", "59.22 ± 1.31"),
        ("glnn", "MLP, `glnn`", "80.54 ± 1.35"),
    ):
        report = reports[name]
        gain = "-" if name == "mlp" else over(report, reports["mlp"])
        closed = "-" if name == "mlp" else gap_closed(report, reports["mlp"], teacher)
        rows.append([label, percent(report.tests("first")), gain, closed, published])
    print(markdown(("model", "test accuracy", "paired difference [95 %]", "gap closed", "published"), rows))


if __name__ == "__main__":
    main()
