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
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.study.job import ATTEMPTS
from gkd_plugin.study.ledger import DONE, ENDED, FAILED, RUNNING, Entry, Ledger

CRASHES, ENDLESS, REFUSED = "base-layer=crashes", "base-layer=never_ends", "base-lr=0.01"
# A package beside the study: workers find it by its entry point, as they find every plugin.
PLUGIN = f"""
import errno, os, pathlib, signal, time
import gkd_plugin
from torch_geometric.graphgym.models.layer import GCNConv
from torch_geometric.graphgym.register import register_layer

@register_layer("crashes")
class Crashes(GCNConv):
    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)

@register_layer("never_ends")
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


BASE = {
    "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
    "accelerator": "cpu",
    "tensorboard_agg": False,
    "train": {"mode": "distill", "eval_period": 1, "ckpt_period": 5},
    "gnn": {"layers_mp": 2, "dim_inner": 8, "layer_type": "gcnconv", "l2norm": False},
    "optim": {"max_epoch": 30},
}


class Study:
    """A grid of learning rates, and, where it is disturbed, two configurations that cannot end well."""

    def __init__(self, folder: Path, count: int, disturbed: bool) -> None:
        folder.mkdir()
        self.folder = folder
        self.runs = folder / "results" / "base_grid_faults"
        self.ledger = Ledger(folder / "results" / "base_grid_faults.gkd" / "ledger")
        rates = ", ".join(str(round(0.01 + 0.001 * number, 3)) for number in range(count - 2))
        grid = f"optim.base_lr lr [{rates}]\n"
        if disturbed:
            grid += "\ngnn.layer_type layer [crashes, never_ends]\n"
        (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
        (folder / "faults.txt").write_text(grid)
        self.path = os.environ.get("PYTHONPATH", "")
        if disturbed:
            write_plugin(folder / "plugin")
            self.path = os.pathsep.join([str(folder / "plugin"), self.path])

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The command; called again, it continues."""
        command = [sys.executable, "-m", "gkd_cli", "grid", "--config", "base.yaml", "--grid", "faults.txt"]
        return subprocess.Popen(
            [*command, "--repeat", "1", "--threads", "1", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": self.path},
        )

    def failed(self) -> dict[str, str | None]:
        return {entry.name: entry.reason for entry in self.ledger.entries() if entry.state == FAILED}


class Chaos:
    """Kills workers at random while the command runs, never the same run more often than it survives."""

    def __init__(self, study: Study, kills: int, seed: int) -> None:
        self.study, self.kills, self.random = study, kills, random.Random(seed)
        self.killed = 0

    def disturb(self, running: subprocess.Popen[bytes], until: int) -> None:
        """Kills workers until ``until`` runs have ended; there the command itself is killed, if it still runs."""
        attacked: Counter[str] = Counter()
        while running.poll() is None:
            entries = self.study.ledger.entries()
            if sum(entry.state in ENDED for entry in entries) >= until:
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
            time.sleep(self.random.uniform(0.2, 1.0))

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
    """The processes that a process has started, and those that they have started."""
    of: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if rest[0] != "Z":
            of.setdefault(int(rest[1]), []).append(int(status.parent.name))
    found = list(of.get(pid, ()))
    for each in found:  # grows as it goes
        found.extend(of.get(each, ()))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def read_numbers(study: Study, name: str) -> dict[str, Any]:
    """What a run found, without what no two runs share."""
    seed = study.runs / name / "0"
    rows = [json.loads(line) for line in (seed / "val" / "stats.json").read_text().splitlines()]
    answers = json.loads((seed / "result.json").read_text())["answers"]
    return {"answers": answers, "rows": [(row["epoch"], row["accuracy"], row["loss"]) for row in rows]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    count, kills, deaths = (8, 3, 1) if given.quick else (40, 20, 2)
    with tempfile.TemporaryDirectory() as place:
        calm, wild = Study(Path(place, "calm"), count, False), Study(Path(place, "wild"), count, True)
        print("undisturbed", flush=True)
        calm.start("--workers", "0").wait()
        slowest = max(entry.seconds for entry in calm.ledger.entries())
        timeout = max(10.0, round(5 * slowest))
        words = ("--workers", "2", "--timeout", str(timeout))
        chaos = Chaos(wild, kills, given.seed)
        for death in range(deaths):
            print(f"command {death + 1}, which will be killed", flush=True)
            running = wild.start(*words)
            chaos.disturb(running, until=(death + 1) * count // (deaths + 2))
            chaos.kill_command(running)
        print(f"command {deaths + 1}", flush=True)
        running = wild.start(*words)
        chaos.disturb(running, until=count + 1)
        codes, before = [running.wait()], wild.failed()
        print("again, with the failed ones", flush=True)
        codes.append(wild.start(*words, "--retry-failed").wait())
        print(f"{chaos.killed} of {kills} workers killed, the command {deaths} times")
        good = {"all were killed that should be": chaos.killed == kills, **judge(calm, wild, before, timeout)}
        good["the commands said that runs failed"] = codes == [1, 1]
    for what, holds in good.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return 0 if all(good.values()) else 1


def write_plugin(folder: Path) -> None:
    info = folder / "study_faults-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "study_faults_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: study_faults\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gkd_plugin]\nstudy_faults = study_faults_plugin\n")


def judge(calm: Study, wild: Study, before: dict[str, str | None], timeout: float) -> dict[str, bool]:
    """What should hold in the end, and whether it does.

    Args:
        calm, wild (Study): The undisturbed and the disturbed study.
        before (dict): What had failed before the last command, and why.
        timeout (float): The time-out of a run.
    """
    after = wild.failed()
    for title, failures in (("had failed before the last command", before), ("failed in the end", after)):
        print(f"{title}:", *(f"  {name}: {reason}" for name, reason in failures.items()), sep="\n")
    entries = {entry.name: entry for entry in wild.ledger.entries()}
    healthy = sorted(entry.name for entry in calm.ledger.entries() if entry.state == DONE)
    return {
        "every healthy run is there": {name for name, entry in entries.items() if entry.state == DONE} == set(healthy),
        "once": {path.name for path in wild.runs.iterdir() if path.is_dir()} == {*entries, "agg"},
        "with the numbers of the undisturbed study": all(
            read_numbers(wild, name) == read_numbers(calm, name) for name in healthy
        ),
        "what cannot end well failed": set(after) == {CRASHES, ENDLESS},
        "a crash is said": "its worker died 3 times" in str(after.get(CRASHES)),
        "a time-out is said": after.get(ENDLESS) == f"time-out after {timeout:g} s",
        "a full disk is said, and mended": set(before) == {*after, REFUSED}
        and "No space left" in str(before.get(REFUSED)),
    }


if __name__ == "__main__":
    sys.exit(main())
