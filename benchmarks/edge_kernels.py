"""The structure term on a large random graph: the formula as one writes it, torch in chunks, and compiled loops.

    python benchmarks/edge_kernels.py                      # 169,343 nodes, 2.3 million directed edges, width 128
    python benchmarks/edge_kernels.py --nodes 2708 --pairs 5278 --width 64 --rounds 30    # Cora's size

Each side computes the distributions of a learner and of a source over every node's edges, their KL divergence and the
gradient for the learner. The sides run in turn, each in a process of its own; memory is the largest resident size less
what there was before. `direct` gathers both ends of every edge; its softmax is PyG's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studies import ROOT, markdown

sys.path.insert(0, str(ROOT))
SIDES = ("direct", "chunks", "compiled")


def measure(side: str, kernel_name: str, nodes: int, pairs: int, width: int, rounds: int) -> dict[str, Any]:
    """Seconds of each round, extra memory, loss and a digest of the gradient, in this process."""
    import torch
    from torch_geometric.utils import softmax

    from gkd_plugin.ops import compiled, edges
    from gkd_plugin.space.kernels import KERNELS

    torch.manual_seed(0)
    one_way = torch.randint(nodes, (2, pairs))
    domain = edges.edges(torch.cat((one_way, one_way.flip(0)), dim=1), nodes, False)
    learner, source = torch.randn(nodes, width), torch.randn(nodes, width)
    kernel, scale = KERNELS[kernel_name], 100.0
    first, second = domain.index
    once, place = domain.unordered  # kept with the graph: a run makes it once

    def compute() -> tuple[float, torch.Tensor]:
        rows = learner.clone().requires_grad_()
        if side == "direct":
            mine, theirs = (
                softmax(kernel.function(x[first], x[second], scale), second, num_nodes=nodes)
                for x in (rows, source.clone())
            )
            loss = (theirs * (theirs / mine).log()).sum() / nodes
        else:
            mine, theirs = (
                domain.log_softmax(kernel.on_edges(x, once, scale).index_select(0, place), "in_edges")
                for x in (rows, source)
            )
            loss = (theirs.exp() * (theirs - mine)).sum() / nodes
        loss.backward()
        assert rows.grad is not None
        return loss.item(), rows.grad

    compiled.SMALLEST = 0 if side == "compiled" else 2**62
    begin = time.perf_counter()
    if side == "compiled" and not compiled.is_there():
        raise SystemExit("no compiled loops here: pip install 'gkd_plugin[fast]'")
    ready = time.perf_counter() - begin
    before = reset_peak()
    loss, gradient = compute()
    peak = read_peak() - before
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - begin)
    digest = [float(gradient.norm()), *gradient[:4, :4].flatten().tolist()]
    return {"seconds": seconds, "peak": peak, "loss": loss, "gradient": digest, "ready": ready}


def run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a side prints."""
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reset_peak() -> int:
    """Forgets the largest resident size; returns the present one, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _read_status("VmRSS")


def read_peak() -> int:
    return _read_status("VmHWM")


def _read_status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1))


def main() -> None:
    """Runs all sides and prints one table for each kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--nodes", 169_343), ("--pairs", 1_166_243), ("--width", 128), ("--rounds", 5)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--kernels", default="laplacian,rbf,cosine,linear")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sizes = (asked.nodes, asked.pairs, asked.width, asked.rounds)
    if asked.side:
        print(json.dumps(measure(asked.side, asked.kernels, *sizes)))
        return
    usual = os.environ | {"OMP_NUM_THREADS": "1"}
    # freed blocks go back at once, so that what is resident is what is held; times would be longer
    lean = usual | {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
    for kernel in asked.kernels.split(","):
        found = {}
        for side in SIDES:
            words = [
                str(part)
                for name, part in zip(("nodes", "pairs", "width", "rounds"), sizes, strict=True)
                for part in (f"--{name}", part)
            ]
            command = [sys.executable, __file__, "--kernels", kernel, "--side", side, *words]
            found[side] = run(command, usual)
            found[side]["peak"] = run([*command, "--rounds", "0"], lean)["peak"]
        rows, base = [], found["direct"]
        for side, values in found.items():
            middle = statistics.median(values["seconds"])
            spread = f"{min(values['seconds']):.3g} to {max(values['seconds']):.3g}"
            times = f"{statistics.median(base['seconds']) / middle:.1f}"
            far = (
                max(abs(a - b) for a, b in zip(values["gradient"], base["gradient"], strict=True)) / base["gradient"][0]
            )
            memory = f"{values['peak'] / 1024:.0f}"
            share = f"1/{base['peak'] / max(values['peak'], 1):.0f}"
            same = f"{abs(values['loss'] - base['loss']) / abs(base['loss']):.0e}, {far:.0e}"
            rows.append([side, f"{middle:.3g}", spread, times, memory, share, same])
        heads = [
            "",
            "s, median",
            "spread",
            "times faster",
            "extra MiB",
            "of direct",
            "loss, gradient: relative difference",
        ]
        print(
            f"{kernel}, {asked.nodes} nodes, {2 * asked.pairs} directed edges, width {asked.width}, {asked.rounds} rounds"
        )
        print(markdown(heads, rows))
        print(f"first use of compiled loops in a process: {found['compiled']['ready']:.2f} s", flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "numba"))
    print(
        f"{platform.machine()}, one thread, Python {platform.python_version()}, {versions}; memory with MALLOC_MMAP_THRESHOLD_=262144"
    )


if __name__ == "__main__":
    main()
