"""Contenders that train an epoch at a time, in turns in one process, measured in CPU seconds of one thread.

A machine that does other work slows all sides alike, because they take turns epoch by epoch; a round has as many epochs of
each side as lie between two of anything that ``gkd run`` does now and then, and ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from studies import ROOT

ROUND = 20  # epochs of each side in a round: diagnostics.json gets a row every 20
Epoch = Callable[[], object]


def count(text: str) -> int:
    """A number of rounds."""
    found = int(text)
    if found < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return found


def parse(description: str, rounds: int) -> argparse.Namespace:
    """``--data``, ``--rounds``; quiet, and one thread."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("GKD_DATA_DIR")
    parser.add_argument("--data", default=folder, help="folder with prepare.py (default: download)")
    parser.add_argument("--rounds", type=count, default=rounds)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    import gkd_plugin  # noqa: F401

    for name in ("pytorch_lightning", "lightning.pytorch"):  # they set their level when they are imported
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    return asked


def gcn(datasets: Path, name: str, width: int, *words: str, layers: int = 2) -> Any:
    """A GCN on a Planetoid graph, labels only unless ``words`` say more."""
    from gkd_plugin.config.load import read_config

    shape = ("dataset.name", name, "gnn.dim_inner", str(width), "gnn.layers_mp", str(layers))
    places = ("dataset.dir", str(datasets), "num_threads", "1", "train.enable_ckpt", "false", "optim.max_epoch", "9999")
    return read_config(ROOT / "graphgym_configs" / "cora" / "supervised.yaml", [*shape, *places, *words])


class _Paused(BaseException):
    pass


class Run:
    """What ``gkd run`` does in an epoch, rows and all: its own loop, stopped after each.

    Args:
        config (Config): A configuration.
        folder (Path): Where its files go.
    """

    def __init__(self, config: Any, folder: Path) -> None:
        from torch_geometric import seed_everything
        from torch_geometric.graphgym.model_builder import create_model
        from torch_geometric.graphgym.utils.comp_budget import params_count
        from torch_geometric.graphgym.utils.device import auto_select_device

        from gkd_plugin import host
        from gkd_plugin.data.load import load
        from gkd_plugin.training.graphgym import make_trainer
        from gkd_plugin.training.metrics import make_logs

        def pause(*_: Any) -> None:
            raise _Paused

        self.own = config.cfg.clone()
        self.own.out_dir, self.own.run_dir, self.own.seed = str(folder), str(folder / "0"), 1
        with host.scoped(self.own):
            seed_everything(1)
            auto_select_device()
            loaders = load(host.cfg)
            model = create_model()
            host.cfg.params = params_count(model)
            self.trainer = make_trainer(config.plan, model, loaders, make_logs(), progress=pause)
            self.own = host.snapshot()  # with what loading the data added

    def __call__(self) -> None:
        from gkd_plugin import host

        with host.scoped(self.own):
            try:
                self.trainer._train(1)
            except _Paused:
                return


def measure(contenders: Mapping[str, Epoch], rounds: int, epochs: int = ROUND, warm: int = 2) -> dict[str, list[float]]:
    """CPU seconds of an epoch of each side in each round; the first ``warm`` epochs do not count."""
    for contender in contenders.values():
        for _ in range(warm):
            contender()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names, order = list(contenders), random.Random(0)
    for _ in range(rounds):
        spent = dict.fromkeys(contenders, 0.0)
        for _ in range(epochs):
            order.shuffle(names)  # whoever came before has filled the cache: not always the same
            for name in names:
                began = time.process_time()
                contenders[name]()
                spent[name] += time.process_time() - began
        for name, seconds in spent.items():
            found[name].append(seconds / epochs)
    return found


def milliseconds(times: Sequence[float]) -> str:
    """The median with the least and the most: ``21.3 (20.9 to 22.0)``."""
    return f"{1000 * median(times):.1f} ({1000 * min(times):.1f} to {1000 * max(times):.1f})"


def ratio(
    times: Sequence[float], base: Sequence[float], times_base: float = 1.0, together: bool = False
) -> tuple[float, str]:
    """The median over rounds of the ratio to another side, and the same as text with the least and the most.

    Args:
        times, base (sequence of float): What :func:`measure` gave of both sides.
        times_base (float): Factor on the other side.
        together (bool): The ratio of all rounds together instead, where each is less than a whole one.
    """
    each = [a / (times_base * b) for a, b in zip(times, base, strict=True)]
    found = sum(times) / (times_base * sum(base)) if together else median(each)
    return found, f"{found:.2f} ({min(each):.2f} to {max(each):.2f})"


def describe_machine() -> str:
    """A line below a table: what it was measured on."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    packages = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torch_geometric", "numba"))
    return (
        f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} thread; CPU seconds (median, in brackets the least and "
        f"the most of all rounds); Python {platform.python_version()}, {packages}; allocator: {describe_allocator()}."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "absent"


def describe_allocator() -> str:
    """The C library's, and what changes it."""
    named = os.environ.get("LD_PRELOAD", "")
    tuned = [f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("MALLOC_")]
    return ", ".join(["-".join(platform.libc_ver()).strip("-") or "the system's", *([named] if named else []), *tuned])
