"""The same knowledge and weight under every layer map (``layer_reduction: mean``): GCNII of 8 layers x 64 teaches 4 x 4.

    python benchmarks/layer_maps.py --data ../shared/data

Public splits of Cora (5 seeds, a teacher for each) and PubMed (3 seeds, one teacher). Knowledge: node embeddings (weight 10) and
which node is which (G-CRD's contrast, weight 0.1), projected to width 16; the weights were not searched.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from studies import Job, arguments, markdown, over, percent, prepare, seconds, study

DATA = {"Cora": 5, "PubMed": 3}
TEACHERS = {"Cora": 5, "PubMed": 1}
MAPS = ("last", "proportional", "shift", "uniform", "attention")
KNOWLEDGE = {
    "feature": "weight 10 tap layer loss mse projector linear projector_side both dim 16 normalize l2".split(),
    "contrast": "weight 0.1 tap layer projector linear_bn_relu dim 16 samples 256".split(),
}


def student(data: str, knowledge: str, layer_map: str) -> Job:
    """One student."""
    values = [*KNOWLEDGE[knowledge], "layer_map", layer_map, "layer_reduction", "mean"]
    group = [word if place % 2 else f"kd_{knowledge}.{word}" for place, word in enumerate(values)]
    taught = ("kd.teacher", f"{data}_teacher", "kd.teacher_seed", "match" if TEACHERS[data] > 1 else "0")
    kept = ("kd.preset", "none", "kd.teacher_cfg", "none", "train.eval_period", "5")
    name = f"{data}_{knowledge}_{layer_map}"
    return Job(f"{data.lower()}/soft_target.yaml", name, DATA[data], (*kept, *taught, *group))


def alone(data: str) -> Job:
    """The student without a teacher."""
    keys = ("kd.preset", "supervised", "kd.teacher_cfg", "none", "train.eval_period", "5")
    return Job(f"{data.lower()}/soft_target.yaml", f"{data}_supervised", DATA[data], keys)


def jobs() -> list[Job]:
    """Every student."""
    return [*map(alone, DATA), *(student(*words) for words in product(DATA, KNOWLEDGE, MAPS))]


def main() -> None:
    """Runs everything and prints the tables."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "layer_maps"
    datasets = prepare(asked.data, Path(asked.out), list(DATA))
    keys = ("gnn.layers_mp", "8", "train.eval_period", "5", "kd.patience", "20")
    wanted = [Job(f"{d.lower()}/teacher_gcnii.yaml", f"{d}_teacher", seeds, keys) for d, seeds in TEACHERS.items()]
    teachers = study(wanted, out, datasets, asked.workers)
    reports = study(jobs(), out, datasets, asked.workers, asked.only)
    rows = []
    for data in DATA:
        base = reports[f"{data}_supervised"]
        rows.append([data, "teacher", "-", percent(teachers[f"{data}_teacher"].tests("first")), "-", "-"])
        rows.append([data, "labels only", "-", percent(base.tests("first")), "-", seconds(base)])
        for knowledge, name in product(KNOWLEDGE, MAPS):
            report = reports[f"{data}_{knowledge}_{name}"]
            cells = [percent(report.tests("first")), over(report, base), seconds(report)]
            rows.append([data, knowledge, f"`{name}`", *cells])
    print(markdown(("data", "knowledge", "map", "test accuracy", "paired difference [95 %]", "s"), rows))


if __name__ == "__main__":
    main()
