"""The readme's first job: an epoch of alignahead_pp on the digits over an epoch of its control.

    python benchmarks/first_job.py

``graphgym_configs/deep/alignahead_pp.yaml``: two GCNs of eight layers of width 16 with a head on every layer. Besides, the
same with one part left out: what that part costs. ``structure: its loops alone`` are the distributions of an epoch, of eight
layers of two students when they learn and when they are read, with nothing around them and in a warm cache.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from offline_costs import local_structure
from studies import ROOT, markdown
from turns import Run, describe_machine, measure, milliseconds, parse, ratio

BAR = 1.4
CONTROL = "control"
PARTS = {
    "structure": ("kd_structure.weight", "0"),
    "features": ("kd_feature.weight", "0"),
    "heads": ("kd_auxiliary.weight", "0"),
}


def main() -> None:
    """Measures in turns and prints one table."""
    asked = parse(str(__doc__), rounds=4)
    from gkd_plugin.commands.run import control_overrides
    from gkd_plugin.config.load import read_config

    path = ROOT / "graphgym_configs" / "deep" / "alignahead_pp.yaml"
    plain = ["train.enable_ckpt", "false", "optim.max_epoch", "9999"]
    with tempfile.TemporaryDirectory() as scratch:
        whole = read_config(path, plain)
        words = {CONTROL: control_overrides(whole.plan), "alignahead_pp": []}
        words |= {f"without {name}": list(part) for name, part in PARTS.items()}
        sides = {name: Run(read_config(path, [*plain, *extra]), Path(scratch) / name) for name, extra in words.items()}
        graph = next(iter(sides[CONTROL].trainer.feeds[0])).batch
        layers = 2 * 8
        learns, read = (local_structure(graph.edge_index, graph.num_nodes, 16, learns) for learns in (True, False))
        alone = {"structure: its loops alone": lambda: [part() for _ in range(layers) for part in (learns, read)]}
        times = measure(sides, asked.rounds) | measure(alone, asked.rounds)
    rows = []
    for name, each in times.items():
        found, text = ratio(each, times[CONTROL])
        verdict = [f"{BAR:g}", "yes" if found <= BAR else "no"] if name == "alignahead_pp" else ["-", "-"]
        rows.append([name, milliseconds(each), text, *verdict])
    print(markdown(["", "epoch, ms", "over control", "bar", "met"], rows))
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
