"""Runs every script of docs/performance.md, one after another, and writes their tables to one Markdown file.

    python benchmarks/all.py --data ../shared/data --out performance.md

A script that fails leaves its message in place of a table, and the others run all the same; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from studies import ROOT

PAGE = ROOT / "docs" / "performance.md"


def list_scripts() -> list[str]:
    """The scripts that the page names, each once, in its order."""
    return list(dict.fromkeys(re.findall(r"^    python benchmarks/(\w+)\.py", PAGE.read_text(), re.MULTILINE)))


def main() -> None:
    """Runs all and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("GKD_DATA_DIR")
    parser.add_argument("--data", default=folder, help="folder with prepare.py (default: download)")
    parser.add_argument("--out", default="performance.md")
    asked = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"GKD_DATA_DIR": asked.data} if asked.data else {}
    failed, parts = [], ["# Performance, measured anew\n"]
    for name in list_scripts():
        began = time.perf_counter()
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            failed.append(name)
        text = done.stdout if done.returncode == 0 else f"    {done.stderr.strip().splitlines()[-1]}\n"
        parts.append(f"## {name}\n\n{text}\n{time.perf_counter() - began:.0f} s\n")
        Path(asked.out).write_text("\n".join(parts))
        print(f"{name}: {'failed' if done.returncode else 'done'}", file=sys.stderr, flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
