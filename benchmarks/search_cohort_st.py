"""Chooses the point of ``cohort_st`` by validation scores over three data sets at once.

    python benchmarks/search_cohort_st.py --data ../shared/data

GCN students without a teacher: two layers of width 16 on the public splits of Cora and CiteSeer, three of width 8 on the
digits with 3 neighbours each; two seeds, 200 epochs. The score of a point is the mean over data sets of the validation
accuracy (mean over students, each at its own epoch). Test scores are neither read nor printed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from studies import Job, arguments, markdown, prepare, study

DATA = {
    "Cora": ("cora", "gnn.layers_mp", "2", "gnn.dim_inner", "16"),
    "CiteSeer": ("citeseer", "gnn.layers_mp", "2", "gnn.dim_inner", "16"),
    "digits_k3": (
        "digits",
        "dataset.name",
        "digits_k3",
        "gnn.layers_mp",
        "3",
        "gnn.dim_inner",
        "8",
        "gnn.dropout",
        "0",
    ),
}
SHARPEN, CONFIDENCE, STUDENTS = ("0.3", "0.5"), ("0", "0.8"), ("2", "4")
POINTS = [
    *(
        (sharpen, confidence, "rampup_80", students)
        for sharpen, confidence, students in product(SHARPEN, CONFIDENCE, STUDENTS)
    ),
    *(("0.5", "0", schedule, "2") for schedule in ("constant", "rampup_40", "rampup_160")),
]


def main() -> None:
    """Runs the grid and prints it, the best point first, with labels only below."""
    asked = arguments(str(__doc__))
    datasets = prepare(asked.data, Path(asked.out), ("Cora", "CiteSeer"))
    jobs = []
    for data, (folder, *network) in DATA.items():
        for sharpen, confidence, schedule, students in POINTS:
            keys = ("kd_response.sharpen", sharpen, "kd_response.confidence", confidence)
            keys = (*keys, "kd_response.schedule", schedule, "kd.students", students, *network)
            name = f"{data}_{sharpen}_{confidence}_{schedule}_{students}"
            jobs.append(Job(f"{folder}/cohort_st.yaml", name, 2, keys))
        for students in STUDENTS:
            keys = ("kd.students", students, *network)
            jobs.append(Job(f"{folder}/supervised.yaml", f"{data}_labels_{students}", 2, keys))
    reports = study(jobs, Path(asked.out) / "search_cohort_st", datasets, asked.workers, asked.only)
    rows = [["_".join(point)] for point in (*POINTS, *(("labels", students) for students in STUDENTS))]
    for row in rows:
        found = [reports[f"{data}_{row[0]}"] for data in DATA if f"{data}_{row[0]}" in reports]
        scores = [100 * float(np.mean([r.answers["mean"].val for r in report.results])) for report in found]
        row += [*(f"{score:.2f}" for score in scores), f"{np.mean(scores):.2f}"]
    rows.sort(key=lambda row: -float(row[-1]))
    print(markdown(["sharpen, confidence, schedule, students", *DATA, "mean validation accuracy %"], rows))


if __name__ == "__main__":
    main()
