"""An epoch of ``gkd run`` next to the host's Lightning training and next to a bare loop, measured in turns.

    python benchmarks/epoch_time.py --data ../shared/data

A supervised GCN on Cora (training and validation in every epoch, no checkpoints), and cohorts of 2 and 4 students under
``alignahead`` with two update orders. In every round each contender trains for some epochs; the first epochs of a
round are left out. Ratios are taken round by round, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from studies import ROOT, markdown, prepare

WARM = 5  # epochs of each round that are not counted

Epochs = list[float]


def configuration(datasets: Path, epochs: int, *words: str) -> Any:
    from gkd_plugin.config.load import read_config

    name = "alignahead" if words else "supervised"
    pairs = ("dataset.dir", str(datasets), "num_threads", "1", "train.enable_ckpt", "false")
    path = ROOT / "graphgym_configs" / "cora" / f"{name}.yaml"
    return read_config(path, [*pairs, "optim.max_epoch", str(epochs), *words])


def between(stamps: list[float]) -> Epochs:
    """Durations of the epochs that count."""
    return [later - earlier for earlier, later in zip(stamps[WARM:], stamps[WARM + 1 :], strict=False)]


def bare(config: Any) -> Epochs:
    """The loop that one would write by hand: one graph, one model, validation accuracy in every epoch."""
    import torch
    from torch.nn import functional
    from torch_geometric import seed_everything
    from torch_geometric.graphgym.loader import create_loader
    from torch_geometric.graphgym.model_builder import create_model
    from torch_geometric.graphgym.optim import create_optimizer, create_scheduler

    from gkd_plugin import host

    with host.scoped(config.cfg.clone()):
        host.cfg.run_dir = host.cfg.out_dir
        seed_everything(1)
        batch = next(iter(create_loader()[0]))
        model = create_model(to_device=False)
        optimizer = create_optimizer(model.parameters(), host.cfg.optim)
        scheduler = create_scheduler(optimizer, host.cfg.optim)
        stamps = [time.perf_counter()]
        for _ in range(host.cfg.optim.max_epoch):
            for split in ("train", "val"):
                model.train(split == "train")
                with torch.set_grad_enabled(split == "train"):
                    inside = copy.copy(batch)
                    inside.split = split
                    pred, true = model(inside)
                    loss = functional.cross_entropy(pred, true)
                if split == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                else:
                    (pred.argmax(1) == true).float().mean().item()
            scheduler.step()
            stamps.append(time.perf_counter())
    return between(stamps)


def lightning(config: Any) -> Epochs:
    """The host's own training, its rows written as it writes them."""
    from torch_geometric import seed_everything
    from torch_geometric.graphgym.logger import LoggerCallback
    from torch_geometric.graphgym.model_builder import create_model
    from torch_geometric.graphgym.train import GraphGymDataModule, train
    from torch_geometric.graphgym.utils.device import auto_select_device

    from gkd_plugin import host

    stamps: list[float] = []
    plain = LoggerCallback.on_train_epoch_start

    def stamped(self: Any, *args: Any) -> None:
        stamps.append(time.perf_counter())
        plain(self, *args)

    with host.scoped(config.cfg.clone()), tempfile.TemporaryDirectory() as folder:
        host.cfg.out_dir = host.cfg.run_dir = folder
        host.cfg.train.mode = "standard"
        seed_everything(1)
        auto_select_device()
        data, model = GraphGymDataModule(), create_model()
        host.cfg.params = 0
        LoggerCallback.on_train_epoch_start = stamped
        try:
            quiet = {"enable_progress_bar": False, "enable_model_summary": False}
            with contextlib.redirect_stdout(io.StringIO()):
                train(model, data, logger=True, trainer_config=quiet)
        finally:
            LoggerCallback.on_train_epoch_start = plain
    return between(stamps)


def ours(config: Any) -> Epochs:
    """``gkd run`` as it is, rows and all."""
    from gkd_plugin.commands.run import run
    from gkd_plugin.training.step import Updates

    stamps: list[float] = []
    plain = Updates.epoch

    def stamped(self: Any, *args: Any) -> Any:
        stamps.append(time.perf_counter())
        return plain(self, *args)

    with tempfile.TemporaryDirectory() as folder:
        Updates.epoch = stamped  # type: ignore[method-assign]
        try:
            run(config, overrides=["out_dir", folder], quiet=True)
        finally:
            Updates.epoch = plain  # type: ignore[method-assign]
    return between(stamps)


def main() -> None:
    """Measures in turns and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument(
        "--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py (default: download)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch

    import gkd_plugin  # noqa: F401

    for name in ("pytorch_lightning", "lightning.pytorch"):  # they set their level when they are imported
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        datasets = prepare(asked.data, Path(scratch), ["Cora"])
        single = configuration(datasets, asked.epochs)
        contenders: dict[str, tuple[Callable[[Any], Epochs], Any]] = {
            "bare loop": (bare, single),
            "the host's Lightning training": (lightning, single),
            "`gkd run`, supervised": (ours, single),
        }
        for students in (2, 4):
            for update in ("epoch_alternate", "joint"):
                words = ("kd.students", str(students), "kd.update", update)
                contender = (ours, configuration(datasets, asked.epochs, *words))
                contenders[f"`gkd run`, alignahead, {students} students, {update}"] = contender
        rounds: dict[str, list[float]] = {name: [] for name in contenders}
        names = list(contenders)
        for turn in range(asked.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                contender, config = contenders[name]
                rounds[name].append(median(contender(config)))
    rows = []
    for name, times in rounds.items():
        ratios = {
            other: median(a / b for a, b in zip(times, rounds[other], strict=True))
            for other in ("bare loop", "the host's Lightning training", "`gkd run`, supervised")
        }
        rows.append([name, f"{1000 * median(times):.1f} ms", *(f"{ratio:.2f}" for ratio in ratios.values())])
    print(markdown(["an epoch of", "time", "to the bare loop", "to the host", "to `gkd run`, supervised"], rows))


if __name__ == "__main__":
    main()
