"""The structure term on a GPU: the formula as one writes it, torch in chunks, and the loops that Triton compiles.

    python benchmarks/gpu_kernels.py                       # 169,343 nodes, 2.3 million directed edges, width 128
    python benchmarks/gpu_kernels.py --nodes 2708 --pairs 5278 --width 64       # Cora's size

As benchmarks/edge_kernels.py, in one process and in turns; memory is what torch allocates beyond what there was before.
The bandwidth of a measure is the bytes of both rows of every pair over its time, next to a copy of 1 GiB on the device
(bytes read and written).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from studies import ROOT, markdown

sys.path.insert(0, str(ROOT))
SIDES = ("direct", "chunks", "compiled")


def time_calls(call: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each call, after two that do not count."""
    import torch

    found = []
    for turn in range(rounds + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if turn > 1:
            found.append(begin.elapsed_time(end))
    return found


def main() -> None:
    """Runs all sides and prints one table for each kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--nodes", 169_343), ("--pairs", 1_166_243), ("--width", 128), ("--rounds", 20)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--kernels", default="laplacian,rbf,cosine,linear")
    asked = parser.parse_args()
    import torch
    from torch_geometric.utils import softmax

    from gkd_plugin.ops import compiled, edges
    from gkd_plugin.space.kernels import KERNELS

    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU")
    torch.manual_seed(0)
    one_way = torch.randint(asked.nodes, (2, asked.pairs))
    domain = edges.edges(torch.cat((one_way, one_way.flip(0)), dim=1).cuda(), asked.nodes, False)
    learner, source = (torch.randn(asked.nodes, asked.width, device="cuda") for _ in range(2))
    first, second = domain.index
    once, place = domain.unordered  # kept with the graph: a run makes it once
    _ = once.ends
    block = torch.empty(2**28, device="cuda")
    copy = 2 * block.nbytes / statistics.median(time_calls(block.clone, asked.rounds)) / 1e6
    del block

    for name in asked.kernels.split(","):
        kernel, scale = KERNELS[name], 100.0

        def distribution(side: str, rows: Any, kernel: Any = kernel, scale: float = scale) -> Any:
            if side == "direct":
                return softmax(kernel.function(rows[first], rows[second], scale), second, num_nodes=asked.nodes).log()
            return domain.log_softmax(kernel.on_edges(rows, once, scale).index_select(0, place), "in_edges")

        def compute(side: str, backward: bool, distribution: Any = distribution) -> Any:
            compiled.SMALLEST = 0 if side == "compiled" else 2**62
            rows = learner.clone().requires_grad_()
            mine, theirs = distribution(side, rows), distribution(side, source)
            loss = (theirs.exp() * (theirs - mine)).sum() / asked.nodes
            if backward:
                loss.backward()
            return loss.item(), rows.grad

        table, base, before = [], None, None
        for side in SIDES:
            torch.cuda.synchronize()
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            loss, gradient = compute(side, True)
            peak = (torch.cuda.max_memory_allocated() - held) / 2**20
            forward = statistics.median(time_calls(partial(compute, side, False), asked.rounds))
            whole = statistics.median(time_calls(partial(compute, side, True), asked.rounds))
            with torch.no_grad():
                once_only = time_calls(partial(kernel.on_edges, source, once, scale), asked.rounds)
            rate = 2 * once.num_pairs * asked.width * 4 / statistics.median(once_only) / 1e6
            base = base or (loss, whole, peak)
            before = gradient if before is None else before
            far = float((gradient - before).norm() / before.norm())
            table.append(
                [
                    side,
                    f"{forward:.2f}",
                    f"{whole:.2f}",
                    f"{base[1] / whole:.1f}",
                    f"{peak:.0f}",
                    f"1/{base[2] / peak:.0f}",
                    "" if side == "direct" else f"{rate:.0f} GB/s, {rate / copy:.0%} of a copy",
                    f"{abs(loss - base[0]) / abs(base[0]):.0e}, {far:.0e}",
                ]
            )
        heads = [
            "",
            "forward ms",
            "and backward",
            "times faster",
            "extra MiB",
            "of direct",
            "measure alone",
            "loss, gradient",
        ]
        print(
            f"{name}, {asked.nodes} nodes, {2 * asked.pairs} directed edges, width {asked.width}, {asked.rounds} rounds"
        )
        print(markdown(heads, table), flush=True)
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "triton"))
    print(f"{torch.cuda.get_device_name()}, copy {copy:.0f} GB/s, Python {platform.python_version()}, {names}")


if __name__ == "__main__":
    main()
