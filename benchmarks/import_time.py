"""What importing the plugin adds to the host's import, and how long the commands that train nothing take.

    python benchmarks/import_time.py

Every number comes from a process of its own; the processes take turns, so that a busy machine slows all alike. The
ratio is taken inside one process: first the host is imported, then the plugin. What the light commands import of the host,
without anything of ours that runs after it, is the least that they can take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

from studies import ROOT, markdown
from turns import count

FILE = str(ROOT / "graphgym_configs" / "cora" / "alignahead_pp.yaml")
COMMANDS = (("--help",), ("list",), ("check", FILE), ("explain", FILE))
LIGHT = "from gkd_cli.loading import import_lightly; import_lightly()"
IMPORTS = """
import time
start = time.perf_counter()
import torch_geometric.graphgym
middle = time.perf_counter()
import gkd_plugin
print(middle - start, time.perf_counter() - middle)
"""


def run(*words: str) -> tuple[float, str]:
    """Seconds and output of a Python process."""
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    """Measures in turns and prints the medians."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--rounds", type=count, default=9)
    rounds = parser.parse_args().rounds
    host, plugin, ratios, starts, torch, light = [], [], [], [], [], []
    commands: list[list[float]] = [[] for _ in COMMANDS]
    run("-c", IMPORTS)  # fills the caches of the disk
    for _ in range(rounds):
        seconds, added = map(float, run("-c", IMPORTS)[1].split())
        host.append(seconds)
        plugin.append(added)
        ratios.append(added / seconds)
        starts.append(run("-c", "pass")[0])
        torch.append(run("-c", "import torch")[0])
        light.append(run("-c", LIGHT)[0])
        for words, found in zip(COMMANDS, commands, strict=True):
            found.append(run("-m", "gkd_cli", *words)[0])
    rows = [
        ["`import torch_geometric.graphgym`", f"{median(host):.2f} s", "1"],
        ["then `import gkd_plugin`", f"{median(plugin):.2f} s", f"{median(ratios):.3f}"],
        ["`python -c pass`", f"{median(starts):.3f} s", ""],
        ["`python -c 'import torch'`", f"{median(torch):.2f} s", ""],
    ]
    print(markdown([f"median of {rounds}", "time", "ratio to the host's import"], rows))
    ratio = median(own / whole for own, whole in zip(light, torch, strict=True))
    rows = [["the host without what only training needs", f"{median(light):.2f} s", f"{ratio:.2f}"]]
    for words, found in zip(COMMANDS, commands, strict=True):
        ratio = median(own / whole for own, whole in zip(found, torch, strict=True))
        rows.append([f"`gkd {words[0]}`", f"{median(found):.2f} s", f"{ratio:.2f}"])
    print()
    print(markdown([f"median of {rounds}", "time", "ratio to torch's import"], rows))


if __name__ == "__main__":
    main()
