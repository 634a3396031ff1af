"""A study under fire: workers and the command itself are killed, a configuration crashes, one never ends, the disk refuses a
write; in the end every healthy run is there once, with the numbers of an undisturbed study.

    python benchmarks/study_faults.py              # 40 runs, 20 killed workers, the command killed twice
    python benchmarks/study_faults.py --quick      # 8 runs, 3 killed workers, the command killed once
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from gkd_plugin.study.cluster import Dask
from gkd_plugin.study.engine import Engine, InProcess
from gkd_plugin.study.job import ATTEMPTS, Job
from gkd_plugin.study.ledger import DONE, FAILED, RUNNING, Entry, Ledger
from gkd_plugin.study.resume import choose_jobs

CRASHES, ENDLESS, REFUSED = "crashes", "never_ends", "refused"
EPOCHS = 30
# A package beside the study: workers find it by its entry point, as they find every plugin.
PLUGIN = f"""
import errno, os, pathlib, signal, time
import gkd_plugin
from torch_geometric.graphgym.models.layer import GCNConv
from torch_geometric.graphgym.register import register_layer

@register_layer("{CRASHES}")
class Crashes(GCNConv):
    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)

@register_layer("{ENDLESS}")
class Endless(GCNConv):
    def forward(self, batch):
        while True:
            time.sleep(1)

replace = os.replace

def refuse_once(source, target, **options):
    target, marker = pathlib.Path(target), pathlib.Path(__file__).with_name("refused-once")
    if target.name == "result.json" and "{REFUSED}" in target.parts and not marker.exists():
        marker.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(target))
    replace(source, target, **options)

os.replace = refuse_once

@gkd_plugin.hookimpl
def gkd_register_kernels(register):
    "A plugin has at least one hook."
"""


def make_jobs(folder: Path, count: int, timeout: float | None = None) -> list[Job]:
    """All runs of the study; the last ones are in trouble, or left out where there is no time-out."""
    names = [f"run{number:02}" for number in range(count - 3)] + [REFUSED] + ([CRASHES, ENDLESS] if timeout else [])
    session = uuid.uuid4().hex
    return [
        Job(name, values(name, position), None, "grid", 1, str(folder), "ledger", session, timeout)
        for position, name in enumerate(names)
    ]


def values(name: str, position: int) -> dict[str, Any]:
    return {
        "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
        "accelerator": "cpu",
        "num_threads": 1,
        "tensorboard_agg": False,
        "train": {"mode": "distill", "eval_period": 1, "ckpt_period": 5},
        "gnn": {
            "layers_mp": 2,
            "dim_inner": 8,
            "layer_type": name if name in (CRASHES, ENDLESS) else "gcnconv",
            "l2norm": False,
        },
        "optim": {"max_epoch": EPOCHS, "base_lr": round(0.01 + 0.001 * position, 3)},
    }


def train(jobs: list[Job], engine: Engine, retry_failed: bool = False) -> None:
    """The study's command; calling it again continues."""
    _, left = choose_jobs(jobs, Ledger(Path(jobs[0].cwd, "ledger")), retry_failed)
    with engine:
        for job in left:
            engine.submit(job)
        while engine.pending:
            entry = engine.next()
            print(f"  {entry.name}: {entry.state} {entry.reason or ''}", flush=True)


class Chaos:
    """Kills workers at random while the command runs, never the same run more often than it survives."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.kills, self.random = folder, kills, random.Random(seed)
        self.killed = 0

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--inside", str(self.folder), *words]
        path = os.pathsep.join([str(self.folder / "plugin"), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    def disturb(self, running: subprocess.Popen[bytes], until: int) -> None:
        """Kills workers until ``until`` runs have ended; there the command itself is killed, if it still runs."""
        attacked: Counter[str] = Counter()
        while running.poll() is None:
            entries = Ledger(self.folder / "ledger").entries()
            if sum(entry.state in (DONE, FAILED) for entry in entries) >= until:
                break
            targets = [
                entry
                for entry in entries
                if entry.state == RUNNING
                and entry.pid in children(running.pid)
                and entry.name not in (CRASHES, ENDLESS)
                if attacked[entry.name] < ATTEMPTS - 1
            ]
            if targets and self.killed < self.kills:
                target = self.random.choice(targets)
                attacked[target.name] += 1
                self.killed += 1
                kill(target)
            time.sleep(self.random.uniform(0.5, 3.0))

    def kill_command(self, running: subprocess.Popen[bytes]) -> None:
        """Kills the command; no process of its may be left a few seconds later."""
        pids = children(running.pid)
        running.kill()
        running.wait()
        deadline = time.monotonic() + 60  # a busy machine
        while any(map(is_alive, pids)):
            if time.monotonic() > deadline:
                raise SystemExit(f"processes outlived the command: {[pid for pid in pids if is_alive(pid)]}")
            time.sleep(0.1)


def kill(entry: Entry) -> None:
    print(f"  killing the worker of {entry.name}", flush=True)
    try:
        os.kill(int(entry.pid or 0), signal.SIGKILL)
    except ProcessLookupError:
        pass


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(rest[1]) == pid and rest[0] != "Z":
            found.append(int(status.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def numbers(folder: Path, name: str) -> dict[str, Any]:
    """What a run found, without what no two runs share."""
    result = json.loads((folder / "grid" / name / "0" / "result.json").read_text())
    rows = [json.loads(line) for line in (folder / "grid" / name / "0" / "val" / "stats.json").read_text().splitlines()]
    return {
        "answers": result["answers"],
        "epochs": [row["epoch"] for row in rows],
        "val": [row["accuracy"] for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--retry-failed", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        train(make_jobs(Path(given.inside), given.count, given.timeout), Dask(2), given.retry_failed)
        return 0
    count, kills, deaths = (8, 3, 1) if given.quick else (40, 20, 2)
    with tempfile.TemporaryDirectory() as place:
        calm, wild = Path(place, "calm"), Path(place, "wild")
        calm.mkdir()
        print("undisturbed", flush=True)
        train(make_jobs(calm, count), InProcess())
        write_plugin(wild / "plugin")
        chaos = Chaos(wild, kills, given.seed)
        slowest = max(entry.seconds for entry in Ledger(calm / "ledger").entries())
        timeout = max(10.0, round(5 * slowest))
        words = ("--count", str(count), "--timeout", str(timeout))
        for death in range(deaths):
            print(f"command {death + 1}, which will be killed", flush=True)
            running = chaos.command(*words)
            chaos.disturb(running, until=(death + 1) * count // (deaths + 2))
            chaos.kill_command(running)
        print(f"command {deaths + 1}", flush=True)
        running = chaos.command(*words)
        chaos.disturb(running, until=count + 1)
        first = [
            running.wait(),
            {entry.name: entry.reason for entry in Ledger(wild / "ledger").entries() if entry.state == FAILED},
        ]
        print("again, with the failed ones", flush=True)
        last = chaos.command(*words, "--retry-failed").wait()
        return judge(calm, wild, count, chaos.killed, kills, timeout, first, last)


def write_plugin(folder: Path) -> None:
    info = folder / "study_faults-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "study_faults_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: study_faults\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gkd_plugin]\nstudy_faults = study_faults_plugin\n")


def judge(
    calm: Path, wild: Path, count: int, killed: int, kills: int, timeout: float, first: list[Any], last: int
) -> int:
    """Prints what came out; 0 where all is as it should be."""
    entries = {entry.name: entry for entry in Ledger(wild / "ledger").entries()}
    healthy = [path.name for path in sorted((calm / "grid").iterdir()) if path.is_dir()]
    equal = [name for name in healthy if entries[name].state == DONE and numbers(wild, name) == numbers(calm, name)]
    failed = {name: entry.reason for name, entry in entries.items() if entry.state == FAILED}
    print(f"{killed} of {kills} workers killed; before the last command these had failed:")
    for name, reason in {**first[1], **{f"{name} (at the end)": reason for name, reason in failed.items()}}.items():
        print(f"  {name}: {reason}")
    print(f"{len(equal)} of {len(healthy)} healthy runs are there, with the numbers of the undisturbed study")
    good = {
        "every healthy run, once": len(entries) == count and equal == healthy,
        "all workers were killed that should be": killed == kills,
        "the commands ended well": (first[0], last) == (0, 0),
        "failures and their reasons": set(first[1]) == {CRASHES, ENDLESS, REFUSED}
        and set(failed) == {CRASHES, ENDLESS}
        and "worker died 3 times" in str(failed[CRASHES])
        and str(failed[ENDLESS]) == f"time-out after {timeout:g} s"
        and "No space left" in str(first[1][REFUSED]),
    }
    for what, holds in good.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return 0 if all(good.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
