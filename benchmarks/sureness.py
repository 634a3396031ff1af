"""How sure teachers are: the largest probability of a node's classes, mean over all nodes, of finished runs.

    python benchmarks/sureness.py --data datasets RUN [RUN ...]

Each seed's selected student (a teacher's run has one) reads its graph once, in evaluation mode. Runs of one name, which may
come from several calls, are one row. ``even`` is what a network gives that finds all classes alike.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from studies import markdown

from gkd_plugin.commands.results import load_student
from gkd_plugin.deploy.chosen import choose_seed
from gkd_plugin.deploy.graphs import read_graphs
from gkd_plugin.training.run_folder import finished_seeds

HEAD = ("run", "seeds", "even", "largest probability, from the least sure seed to the surest")


def measure_seed(folder: Path, data: str | None) -> tuple[float, float]:
    """The mean largest probability, and that of classes that are all alike; ``data`` is another ``dataset.dir``."""
    chosen = choose_seed(folder)
    student = load_student(folder, chosen.number)
    own = student.kd_cfg
    own.dataset.dir = data or own.dataset.dir
    (graph,) = read_graphs(own, chosen.result.seed, chosen.run)
    with torch.no_grad():
        probabilities = student(graph).softmax(dim=-1)
    return float(probabilities.max(dim=-1).values.mean()), 1 / probabilities.size(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="another dataset.dir than the runs' own")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in asked.runs:
        found[run.name] += [measure_seed(folder, asked.data) for folder in finished_seeds(run)]
    rows = []
    for name, seeds in sorted(found.items()):
        shares = " ".join(f"{largest:.2f}" for largest, _ in sorted(seeds))
        rows.append((name, str(len(seeds)), f"{seeds[0][1]:.2f}", shares))
    print(markdown(HEAD, rows))


if __name__ == "__main__":
    main()
