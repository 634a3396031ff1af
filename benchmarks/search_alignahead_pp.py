"""Chooses the weights of ``alignahead_pp`` that no paper gives, by validation scores over several data sets at once.

    python benchmarks/search_alignahead_pp.py --data ../shared/data

Two GCN students, two seeds, 100 epochs; the score of a pair of weights is the mean over data sets of the validation
accuracy (mean over students, each at its own epoch). Test scores are neither read nor printed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from studies import Job, arguments, markdown, prepare, study

DATA = ("Cora", "CiteSeer", "digits")
FEATURE, AUXILIARY = ("0.01", "0.1", "1"), ("0.1", "0.3", "1")


def main() -> None:
    """Runs the grid and prints it."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "search_alignahead_pp"
    datasets = prepare(asked.data, Path(asked.out), DATA[:2])
    jobs = [
        Job(
            f"{data.lower()}/alignahead_pp.yaml",
            f"{data}_feature{feature}_aux{aux}",
            2,
            ("kd_feature.weight", feature, "kd_auxiliary.weight", aux, "optim.max_epoch", "100"),
        )
        for data, feature, aux in product(DATA, FEATURE, AUXILIARY)
    ]
    reports = study(jobs, out, datasets, asked.workers, asked.only)
    rows = []
    for feature, aux in product(FEATURE, AUXILIARY):
        found = [
            100 * float(np.mean([r.answers["mean"].val for r in reports[f"{data}_feature{feature}_aux{aux}"].results]))
            for data in DATA
        ]
        rows.append([feature, aux, *(f"{value:.2f}" for value in found), f"{np.mean(found):.2f}"])
    rows.sort(key=lambda row: -float(row[-1]))
    print(markdown(["kd_feature.weight", "kd_auxiliary.weight", *DATA, "mean validation accuracy %"], rows))


if __name__ == "__main__":
    main()
