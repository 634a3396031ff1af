"""A grid of architecture and distillation on Cora, and the same space searched with a quarter of its points.

    python benchmarks/search_versus_grid.py --data ../shared/data --out results/studies

Prints how close the search comes to the grid's best by validation, and what the test says of both. Validation scores are means
over seeds; both take the same seeds, so a point that both tried has the same scores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from studies import ROOT, arguments, markdown, prepare

from gkd_plugin.study.execute import Resources
from gkd_plugin.study.grid import run_grid
from gkd_plugin.study.records import read_study
from gkd_plugin.study.search import run_search
from gkd_plugin.study.tables import summarise

BASE = ROOT / "graphgym_configs/cora/supervised.yaml"
GRID = ROOT / "graphgym_configs/grids/mixed.txt"
SEEDS, EPOCHS = 3, 60


def main() -> None:
    """Runs both studies and prints one table."""
    asked = arguments(__doc__ or "")
    out = Path(asked.out)
    datasets = prepare(asked.data, out, ["Cora"])
    shared = [
        "out_dir",
        str(out),
        "dataset.dir",
        str(datasets),
        "optim.max_epoch",
        str(EPOCHS),
        "kd.sparse_input",
        "true",
    ]
    resources = Resources(workers=asked.workers, threads=1)
    grid = run_grid(BASE, GRID, overrides=shared, repeat=SEEDS, resources=resources, name="mixed_grid")
    count = sum(point.role == "point" for point in grid.study.points) // 4
    searched = run_search(
        BASE, GRID, runs=count, overrides=shared, repeat=SEEDS, resources=replace(resources), name="mixed_search"
    )
    rows = []
    for name, outcome in (("grid", grid), (f"search, {count} points", searched)):
        points = summarise(read_study(outcome.study.folder))
        best = points[(points["role"] == "point") & points["val"].notna()].iloc[0]
        scored = int(((points["role"] == "point") & points["val"].notna()).sum())
        rows.append(
            [
                name,
                str(scored),
                f"{100 * best['val']:.2f}",
                f"{100 * best['test']:.2f} ± {100 * best['test_sd']:.2f}",
                best["name"],
            ]
        )
    print(markdown(["", "points", "best validation %", "its test %", "point"], rows))
    print(f"rank of the search's best among the grid's points by validation: {rank(grid.study.folder, rows[1][4])}")


def rank(folder: Path, name: str) -> str:
    """The place of a point in the grid, the best first."""
    points = summarise(read_study(folder))
    names = [str(each) for each in points[(points["role"] == "point") & points["val"].notna()]["name"]]
    return f"{names.index(name) + 1} of {len(names)}" if name in names else "not in the grid"


if __name__ == "__main__":
    main()
