"""Over-smoothing and accuracy by layer of finished runs, measured in one way whether or not they were trained with heads.

    python benchmarks/oversmoothing.py --data datasets RUN [RUN ...]

Each seed's selected student reads its graph once, in evaluation mode. What is measured are the outputs of its layers (tap
layer): MAD, its gap, the Dirichlet energy, and the test accuracy of a logistic regression (C = 1) on standardised states,
fitted on the training nodes. A row of zeros has the cosine 0 with all others, so that a layer that is 0 at all nodes has
MAD 1: the column of zeros says where. The Dirichlet energy grows with the square of the states.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from studies import markdown, percent, spread
from torch import Tensor
from torch_geometric.data import Batch

from gkd_plugin.commands.results import load_student
from gkd_plugin.deploy.chosen import choose_seed
from gkd_plugin.deploy.graphs import read_graphs
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.ops.oversmoothing import dirichlet_energy, mad
from gkd_plugin.training.run_folder import finished_seeds

HEAD = ("run", "layers", "layer", "MAD, neighbours", "MAD, others", "MADGap", "Dirichlet energy", "zeros %", "probe %")


class Layer(NamedTuple):
    """One layer of one seed; ``zeros`` is the share of nodes whose states are all 0."""

    near: float
    remote: float
    gap: float
    energy: float
    zeros: float
    probe: float


@dataclass(frozen=True)
class Seed:
    """One seed: the accuracy of the network's own answer, as computed here and as its run recorded it, and its layers."""

    dataset: str
    own: float
    recorded: float
    layers: list[Layer]


def pick_layers(depth: int, asked: list[int] | None) -> list[int]:
    """The layers of the table: those asked for that there are; otherwise all up to 4, of deeper networks 1, 2, 4, ... and the last."""
    if asked:
        return [number for number in asked if 1 <= number <= depth]
    return [n for n in range(1, depth + 1) if depth <= 4 or n == depth or n & (n - 1) == 0]


def probe(states: Tensor, labels: Tensor, train: Tensor, test: Tensor) -> float:
    """Test accuracy of a linear classifier on a layer's states."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
    model.fit(states[train].numpy(), labels[train].numpy())
    return float(model.score(states[test].numpy(), labels[test].numpy()))


def measure_seed(folder: Path, data: str | None = None) -> Seed:
    """All layers of a seed's selected student, and its answer; ``data`` is another ``dataset.dir`` than the run's own."""
    chosen = choose_seed(folder)
    student = load_student(folder, chosen.number)
    own = student.kd_cfg
    own.dataset.dir = data or own.dataset.dir
    named = own.kd.get("layers")
    model = ObservedModel(student.model, own, None if named in (None, "none") else str(named))
    graphs = read_graphs(own, chosen.result.seed, chosen.run)
    if (model.task.level, model.task.kind, len(graphs)) != ("node", "multiclass", 1):
        raise SystemExit(f"{folder}: only one graph whose nodes have one of several labels can be measured here.")
    sample = Sample(Batch.from_data_list(graphs), model.task)
    train, test, labels = sample.batch.train_mask, sample.batch.test_mask, sample.batch.y
    with model.untouched():
        seen = model.observe(sample, ["layer"])
    layers = []
    for number, states in enumerate(seen.hidden["layer"], 1):
        edges = seen.graph_of(number).edge_index
        distances, energy = mad(states, edges), dirichlet_energy(states, edges)
        zeros = float((states == 0).all(dim=1).float().mean())
        layers.append(Layer(*map(float, (*distances, energy)), zeros, probe(states, labels, train, test)))
    answer = float((seen.logits.argmax(dim=1) == labels)[test].float().mean())
    return Seed(own.dataset.name, answer, chosen.score.test, layers)


def list_rows(name: str, seeds: list[Seed], asked: list[int] | None) -> list[list[str]]:
    """A run's rows: mean ± standard deviation over seeds."""
    rows, depth = [], len(seeds[0].layers)
    for number in pick_layers(depth, asked):
        near, remote, gap, energy, zeros, score = zip(*(seed.layers[number - 1] for seed in seeds), strict=True)
        distances = [spread(values, ".4f") for values in (near, remote, gap)]
        cells = [*distances, spread(energy, ".3g"), percent(zeros), percent(score)]
        rows.append([name, str(depth), str(number), *cells])
    return rows


def main() -> None:
    """Prints a line for each run, then a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="dataset.dir (default: that of each run)")
    parser.add_argument("--layers", help="such as 1,2,4 (default: all up to 4; of deeper networks 1, 2, 4, ...)")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    asked = parser.parse_args()
    numbers = [int(word) for word in asked.layers.split(",")] if asked.layers else None
    tables: dict[str, list[list[str]]] = {}
    for run in asked.runs:
        seeds = [measure_seed(folder, asked.data) for folder in finished_seeds(run)]
        if not seeds:
            print(f"{run}: no finished seed", file=sys.stderr)
            continue
        own, recorded = percent([seed.own for seed in seeds]), percent([seed.recorded for seed in seeds])
        print(f"- {run.name}: {own} % by its own answer (recorded: {recorded}), {len(seeds)} seeds", flush=True)
        tables.setdefault(seeds[0].dataset, []).extend(list_rows(run.name, seeds, numbers))
    for dataset, rows in tables.items():
        print(f"\n{dataset}\n\n{markdown(HEAD, rows)}")


if __name__ == "__main__":
    main()
