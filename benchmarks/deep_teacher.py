"""GCNII of 64 layers x 64 teaches GCNII of 4 x 4 on Cora, CiteSeer and PubMed: every method under one protocol, and the
learned layer map beside its uniform and frozen controls.

    python benchmarks/deep_teacher.py --data ../shared/data

Public splits, row-normalised features. Teachers: at most 400 epochs, one for each seed (one in all on PubMed). Students: 300
epochs, validation every 5. The weight of each method is chosen on Cora by validation with 3 seeds, from as many candidates as
stand in CANDIDATES, and kept for the other data sets; then 5 seeds, 3 on PubMed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studies import Job, arguments, gap_closed, markdown, over, percent, prepare, seconds, study, validation

DATA = {"Cora": 5, "CiteSeer": 5, "PubMed": 3}
TEACHERS = {"PubMed": 1, "Cora": 5, "CiteSeer": 5}
SEARCH_SEEDS = 3
# the preset's width and sample would cost several seconds a step with 256 pairs of layers
SMALL = ("kd_feature.dim", "16", "kd_contrast.dim", "16", "kd_contrast.samples", "128")


def feature(weight: str) -> tuple[str, ...]:
    return ("kd_feature.weight", weight)


def structure(weight: str, scale: str) -> tuple[str, ...]:
    return ("kd_structure.weight", weight, "kd_structure.kernel_scale", scale)


def both(weight: float) -> tuple[str, ...]:
    return (*SMALL, "kd_feature.weight", f"{weight:g}", "kd_contrast.weight", f"{weight / 10:g}")


def response(share: float, temperature: str) -> tuple[str, ...]:
    keys = ("kd.label_weight", f"{1 - share:g}", "kd_response.weight", f"{share:g}")
    return (*keys, "kd_response.temperature", temperature)


CANDIDATES: dict[str, dict[str, tuple[str, ...]]] = {
    "soft_target": {
        "share 0.9, temperature 4": response(0.9, "4"),
        "share 0.9, temperature 1": response(0.9, "1"),
        "share 0.5, temperature 1": response(0.5, "1"),
    },
    "fitnet": {weight: feature(weight) for weight in ("1", "10", "100", "1000")},
    "attention_transfer": {weight: feature(weight) for weight in ("1", "10", "100", "1000")},
    "lsp": {f"{w}, scale {s}": structure(w, s) for w, s in (("1", "10"), ("100", "10"), ("10", "median"))},
    "gcrd": {weight: ("kd_contrast.weight", weight) for weight in ("0.01", "0.1", "1")},
    "abkd": {weight: feature(weight) for weight in ("1", "10", "100")},
    "stride": {f"{w:g} and {w / 10:g}": both(w) for w in (0.1, 1.0, 10.0)},
}
CONTROLS = {
    "uniform map": ("kd_feature.layer_map", "uniform"),
    "frozen map": ("kd_attention.frozen", "true"),
}


def name_of(data: str, method: str, choice: str) -> str:
    """A folder's name."""
    return "_".join([data, method, *choice.replace(",", "").split()])


def student(data: str, method: str, choice: str, seeds: int, keys: tuple[str, ...]) -> Job:
    """One student."""
    taught = ("kd.teacher_cfg", "none", "train.eval_period", "5")
    if method != "supervised":
        taught += ("kd.teacher", f"{data}_teacher", "kd.teacher_seed", "0" if data == "PubMed" else "match")
    config = f"{data.lower()}/{'soft_target' if method == 'supervised' else method}.yaml"
    preset = ("kd.preset", method)
    return Job(config, name_of(data, method, choice), seeds, (*preset, *taught, *keys))


def search() -> list[Job]:
    """Every candidate on Cora."""
    return [
        student("Cora", method, choice, SEARCH_SEEDS, keys)
        for method, choices in CANDIDATES.items()
        for choice, keys in choices.items()
    ]


def chosen(reports: dict[str, Any], method: str) -> str:
    """The candidate with the best validation score on Cora."""
    return max(CANDIDATES[method], key=lambda choice: validation(reports[name_of("Cora", method, choice)]))


def main() -> None:
    """Runs everything and prints the tables."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "deep_teacher"
    datasets = prepare(asked.data, Path(asked.out), list(DATA))
    slow = ("train.eval_period", "5", "kd.patience", "20")
    wanted = [
        Job(f"{data.lower()}/teacher_gcnii.yaml", f"{data}_teacher", seeds, slow)
        for data, seeds in TEACHERS.items()
        if asked.only in data
    ]
    teachers = study(wanted, out, datasets, asked.workers)
    searched = study(search(), out, datasets, asked.workers)
    best = {method: chosen(searched, method) for method in CANDIDATES}

    rows = []
    for method, choices in CANDIDATES.items():
        scores = [f"{c}: {100 * validation(searched[name_of('Cora', method, c)]):.1f}" for c in choices]
        rows.append([f"`{method}`", "; ".join(scores), best[method]])
    print(markdown(("method", "validation accuracy on Cora by weight", "chosen"), rows))

    jobs = []
    for data, seeds in DATA.items():
        jobs.append(student(data, "supervised", "", seeds, ()))
        for method, choice in best.items():
            jobs.append(student(data, method, choice, seeds, CANDIDATES[method][choice]))
        for control, keys in CONTROLS.items():
            choice = best["abkd"]
            jobs.append(student(data, "abkd", f"{choice} {control}", seeds, (*CANDIDATES["abkd"][choice], *keys)))
    reports = study(jobs, out, datasets, asked.workers, asked.only)
    for data in DATA:
        if asked.only in data:
            print(f"\n{data}\n\n{table(data, reports, teachers[f'{data}_teacher'], best)}")


def table(data: str, reports: dict[str, Any], teacher: Any, best: dict[str, str]) -> str:
    """All methods on one data set."""
    alone = reports[name_of(data, "supervised", "")]
    sizes = [report.results[0].parameters[0] for report in (teacher, alone)]
    rows = [[f"teacher, {sizes[0]:,} parameters", percent(teacher.tests("first")), "-", "-", "-", seconds(teacher)]]
    ratio = f"{sizes[0] / sizes[1]:.1f}x smaller"
    rows.append(
        [f"labels only, {sizes[1]:,} parameters, {ratio}", percent(alone.tests("first")), *["-"] * 3, seconds(alone)]
    )
    listed = {f"`{method}`": name_of(data, method, choice) for method, choice in best.items()}
    listed |= {f"`abkd`, {control}": name_of(data, "abkd", f"{best['abkd']} {control}") for control in CONTROLS}
    learned = reports[listed["`abkd`"]]
    for label, name in listed.items():
        report = reports[name]
        closed = gap_closed(report, alone, teacher)
        beside = over(learned, report) if label.startswith("`abkd`,") else "-"
        rows.append([label, percent(report.tests("first")), over(report, alone), closed, beside, seconds(report)])
    head = ("student", "test accuracy", "paired difference [95 %]", "gap closed", "learned map over this", "s")
    return markdown(head, rows)


if __name__ == "__main__":
    main()
