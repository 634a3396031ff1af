"""Cohort self-training and its control, self-training, next to labels only, on seeds that no search has seen.

    python benchmarks/cohort_st.py --data ../shared/data

The point that `search_cohort_st.py` chose; two students. Cora, CiteSeer and PubMed with their public splits (GCN 2 x 16),
digits with 3 neighbours (GCN 3 x 8, without dropout), Amazon Photo and Coauthor CS with 20 training and 30 validation nodes
of each class, drawn by seed (GCN 2 x 16). Differences are of the mean over students, paired with the same cohort on labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studies import Job, arguments, markdown, over, percent, prepare, seconds, study

FRESH = ("seed", "1000")
WIDE = ("gnn.layers_mp", "2", "gnn.dim_inner", "16")
SPLIT = ("splits.kind", "per_class", "splits.train", "20", "splits.val", "30")
DATA: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "Cora": (10, "cora", WIDE),
    "CiteSeer": (5, "citeseer", WIDE),
    "digits_k3": (
        10,
        "digits",
        ("dataset.name", "digits_k3", "gnn.layers_mp", "3", "gnn.dim_inner", "8", "gnn.dropout", "0"),
    ),
    "PubMed": (3, "pubmed", WIDE),
    "AmazonPhoto": (3, "cora", (*WIDE, "dataset.format", "gkd", "dataset.name", "AmazonPhoto", *SPLIT)),
    "CoauthorCS": (1, "cora", (*WIDE, "dataset.format", "gkd", "dataset.name", "CoauthorCS", *SPLIT)),
}
METHODS = ("labels", "cohort_st", "self_st", "mutual", "dml")
FEW = ("labels", "cohort_st", "self_st")  # where a run takes long


def main() -> None:
    """Runs everything and prints one table."""
    asked = arguments(str(__doc__))
    datasets = prepare(asked.data, Path(asked.out), [name for name in DATA if name != "digits_k3"])
    jobs = []
    for data, (seeds, folder, keys) in DATA.items():
        for method in METHODS if data in ("Cora", "digits_k3") else FEW:
            config = f"{folder}/{'supervised' if method == 'labels' else method}.yaml"
            jobs.append(Job(config, f"{data}_{method}", seeds, (*keys, *FRESH, "kd.students", "2")))
    reports = study(jobs, Path(asked.out) / "cohort_st", datasets, asked.workers, asked.only)
    rows = []
    for data in DATA:
        for method in METHODS:
            report = reports.get(f"{data}_{method}")
            if report is not None and f"{data}_labels" in reports:
                rows.append([data, method, str(len(report.results)), *compare(report, reports[f"{data}_labels"])])
    head = ("data", "method", "seeds", "mean over students", "difference [95 %]", "of the ensembles [95 %]", "s")
    print(markdown(head, rows))


def compare(report: Any, labels: Any) -> list[str]:
    """A method beside labels only."""
    gaps = ["-", "-"] if report is labels else [over(report, labels, answer) for answer in ("mean", "ensemble")]
    return [percent(report.tests("mean")), *gaps, seconds(report)]


if __name__ == "__main__":
    main()
