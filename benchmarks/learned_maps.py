"""Where learned layer maps end, whether seeds agree on it, and what share of the gradient their terms have, of finished runs.

    python benchmarks/learned_maps.py RUN [RUN ...]

A run is a folder with seeds in it; runs of one name, which may come from several calls, are one row. For each source layer the
learner's layer that has most of its mass is taken, in the last epoch that was written. It is *decided* where that is at least
90 %. Two seeds *agree* on a source layer where they take the same layer; by chance they do on one of as many as there are
learner layers. Shares of the gradient are those of all ``kd_`` terms together, as ``diagnostics.json`` has them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from studies import markdown

from gkd_plugin.training.run_folder import finished_seeds

HEAD = (
    "run",
    "seeds",
    "decided %",
    "seeds agree %",
    "by chance %",
    "layers taken %",
    "gradient %, first epoch",
    "last epoch",
)
MOSTLY = 0.9


class Seed(NamedTuple):
    """One seed: the learner's layers, the one that each source layer takes, and the share of it; shares of the gradient."""

    depth: int
    taken: tuple[int, ...]
    shares: tuple[float, ...]
    first: float
    last: float


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Student 1's rows of a file that holds one JSON object in each line."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row["student"] == 1]


def measure_seed(folder: Path) -> Seed:
    """The map of a seed's first student in the last epoch that was written, and the shares of its terms' gradients."""
    weights = np.array(read_lines(folder / "attention.json")[-1]["weights"], dtype=float)
    columns = weights / weights.sum(axis=0)
    gradient = [100 * (1 - row["task_share"]) for row in read_lines(folder / "diagnostics.json")]
    taken, shares = columns.argmax(axis=0) + 1, columns.max(axis=0)
    return Seed(len(columns), tuple(taken.tolist()), tuple(shares.tolist()), gradient[0], gradient[-1])


def count_decided(seeds: list[Seed]) -> float:
    """The share in per cent of source layers, over all seeds, that are decided."""
    return 100 * float(np.mean([np.array(seed.shares) >= MOSTLY for seed in seeds]))


def count_agreeing(seeds: list[Seed]) -> float:
    """The share in per cent of source layers, over all pairs of seeds, for which both take the same layer."""
    pairs = [np.array(one.taken) == np.array(other.taken) for one, other in combinations(seeds, 2)]
    return 100 * float(np.mean(pairs)) if pairs else float("nan")


def count_taken(seeds: list[Seed]) -> str:
    """The shares in per cent of source layers, over all seeds, that take the first, second, ... layer."""
    taken = np.concatenate([seed.taken for seed in seeds])
    return " / ".join(f"{100 * np.mean(taken == layer):.0f}" for layer in range(1, seeds[0].depth + 1))


def span(values: list[float]) -> str:
    """The smallest and the largest value."""
    return f"{min(values):.2g} to {max(values):.2g}" if len(values) > 1 else f"{values[0]:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    found: dict[str, dict[str, Seed]] = defaultdict(dict)
    for run in parser.parse_args().runs:
        for folder in finished_seeds(run):
            if (folder / "attention.json").is_file():
                found[run.name][folder.name] = measure_seed(folder)
    rows = []
    for name, by_seed in sorted(found.items()):
        seeds = list(by_seed.values())
        rows.append(
            (
                name,
                str(len(seeds)),
                f"{count_decided(seeds):.0f}",
                f"{count_agreeing(seeds):.0f}",
                f"{100 / seeds[0].depth:.0f}",
                count_taken(seeds),
                span([each.first for each in seeds]),
                span([each.last for each in seeds]),
            )
        )
    print(markdown(HEAD, rows))


if __name__ == "__main__":
    main()
