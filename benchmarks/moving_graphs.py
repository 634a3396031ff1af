"""LSP on moving graphs: a deep EdgeConv teacher and a small student, both of which search neighbours in every layer.

    python benchmarks/moving_graphs.py --data ../shared/data

Point clouds of 48 points; 4 layers of width 32 with 20 neighbours teach 2 of width 16 with 8; 3 seeds. The weight of each LSP by
validation; then the same with what the teacher says exchanged among items (``kd.shuffle_sources``).
"""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

from studies import Job, arguments, markdown, over, percent, seconds, study, validation

SEEDS = 3
DATA = "GeometricShapes"
WEIGHTS = ("1", "10", "100")
DOMAINS = {"edges": "the student's edges", "union": "the union of both, layer by layer"}
TAUGHT = ("kd.teacher_cfg", "none", "kd.teacher", "teacher")
PLACEBO = ("kd.shuffle_sources", "true")


def lsp(domain: str, weight: str, placebo: bool = False) -> Job:
    """One student that learns local structure."""
    keys = ("kd_structure.domain", domain, "kd_structure.weight", weight, *(PLACEBO if placebo else ()))
    return Job("moving/lsp.yaml", f"{domain}_{weight}{'_shuffled' * placebo}", SEEDS, (*TAUGHT, *keys))


def jobs() -> list[Job]:
    """Every student but the placebos of LSP, whose weights are not yet chosen."""
    found = [
        Job("moving/supervised.yaml", "alone", SEEDS),
        Job("moving/soft_target.yaml", "soft_target", SEEDS, TAUGHT),
        Job("moving/soft_target.yaml", "soft_target_shuffled", SEEDS, (*TAUGHT, *PLACEBO)),
    ]
    return found + [lsp(domain, weight) for domain, weight in product(DOMAINS, WEIGHTS)]


def fetch(data: str | None, out: Path) -> Path:
    """A writable ``dataset.dir``; PyG downloads into it where there is no local copy."""
    folder = out / "datasets"
    if data and not (folder / DATA).exists():
        shutil.copytree(Path(data) / DATA / "raw", folder / DATA / "raw", copy_function=shutil.copyfile)
    return folder


def main() -> None:
    """Runs everything and prints the table."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "moving_graphs"
    datasets = fetch(asked.data, Path(asked.out))
    teacher = study([Job("moving/teacher.yaml", "teacher", SEEDS)], out, datasets, asked.workers)["teacher"]
    reports = study(jobs(), out, datasets, asked.workers, asked.only)
    best = {domain: max(WEIGHTS, key=lambda weight: validation(reports[f"{domain}_{weight}"])) for domain in DOMAINS}
    reports |= study([lsp(domain, best[domain], True) for domain in DOMAINS], out, datasets, asked.workers)
    alone = reports["alone"]
    rows = [["teacher", "-", percent(teacher.tests("first")), "-", seconds(teacher)]]
    rows.append(["labels only", "-", percent(alone.tests("first")), "-", seconds(alone)])
    told = [("soft targets", "-", "soft_target")]
    told += [(f"LSP, {label}", best[domain], f"{domain}_{best[domain]}") for domain, label in DOMAINS.items()]
    for label, weight, name in told:
        for text, report in ((label, reports[name]), ("the same, shuffled", reports[f"{name}_shuffled"])):
            rows.append([text, weight, percent(report.tests("first")), over(report, alone), seconds(report)])
    print(markdown(("student", "weight", "test accuracy", "paired difference [95 %]", "s"), rows))


if __name__ == "__main__":
    main()
