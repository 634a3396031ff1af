"""Runs many configurations through ``gkd_plugin.run`` in a few processes; finished runs are skipped, so a study goes on
where it stopped."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """One run of some seeds, perhaps beside its control.

    Args:
        config (str): A file below ``graphgym_configs``.
        name (str): Name of its results folder.
        repeat (int): Seeds.
        overrides (tuple): ``key value`` pairs.
        control (bool): Also the control.
    """

    config: str
    name: str
    repeat: int
    overrides: tuple[str, ...] = ()
    control: bool = False


def arguments(description: str) -> argparse.Namespace:
    """``--out``, ``--data``, ``--workers``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", default="results/studies", help="where runs are kept")
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="only jobs whose name contains this")
    return parser.parse_args()


def prepare(data: str | None, out: Path, names: Sequence[str]) -> Path:
    """A writable ``dataset.dir``; PyG downloads into it where there is no local copy."""
    folder = out / "datasets"
    missing = [name for name in names if not (folder / name).exists()]
    if data and missing:
        script = Path(data) / "prepare.py"
        command = [sys.executable, str(script), "copy", "--layout", "graphgym", "--out", str(folder), *missing]
        subprocess.run(command, check=True)
        for path in folder.rglob("*"):
            path.chmod(path.stat().st_mode | 0o200)
    return folder


def _work(job: Job, out: str, datasets: str) -> Any:
    os.environ["OMP_NUM_THREADS"] = "1"
    from gkd_plugin.commands.run import run

    places = ("out_dir", out, "dataset.dir", datasets, "num_threads", "1")
    return run(
        ROOT / "graphgym_configs" / job.config,
        repeat=job.repeat,
        overrides=[*job.overrides, *places],
        name=job.name,
        control=job.control,
        quiet=True,
    )


def study(jobs: Sequence[Job], out: Path, datasets: Path, workers: int, only: str = "") -> dict[str, Any]:
    """The reports by job name; says on stderr what is done."""
    chosen = [job for job in jobs if only in job.name]
    reports: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(_work, job, str(out), str(datasets)): job for job in chosen}
        for done, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            reports[job.name] = future.result()
            print(f"{done}/{len(chosen)} {job.name}", file=sys.stderr, flush=True)
    return reports


def spread(values: Sequence[float], form: str) -> str:
    """``0.81 ± 0.04`` under ``.2f``: mean and standard deviation over seeds."""
    return format(np.mean(values), form) + (f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else "")


def percent(values: Sequence[float]) -> str:
    """The same of shares, in percent: ``81.20 ± 0.45``."""
    return spread([100 * value for value in values], ".2f")


def seconds(report: Any) -> str:
    """Mean time of a run."""
    return f"{np.mean([result.seconds for result in report.results]):.0f}"


def validation(report: Any, answer: str = "first") -> float:
    """Mean validation score, by which weights are chosen."""
    return float(np.mean([result.answers[answer].val for result in report.results]))


def over(report: Any, other: Any, answer: str = "first") -> str:
    """The paired difference of two runs of the same seeds: ``+0.42 [-0.10, +0.94]``."""
    return str(replace(report, control=other).difference(answer).text(100))


def gap_closed(report: Any, student: Any, teacher: Any, answer: str = "first") -> str:
    """``(KD - student) / (teacher - student)`` of the means, as a percentage."""
    kd, alone, taught = (float(np.mean(side.tests(answer))) for side in (report, student, teacher))
    return f"{100 * (kd - alone) / (taught - alone):.0f} %" if taught > alone else "-"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
