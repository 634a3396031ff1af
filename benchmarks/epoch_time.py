"""An epoch of ``gkd run`` next to a bare loop and to the host's Lightning training, on labels alone.

    python benchmarks/epoch_time.py --data ../shared/data

GCNs of two layers; training, validation and rows in every epoch, no checkpoints. ``gkd run`` as it is (the host's numbers,
digit for digit) and with ``kd.sparse_input`` (equal up to rounding). ``bare loop, sparse`` is the bare loop whose convolutions
do sparse products, set in once: the host's network without a program around it. ``by hand, sparse`` does the same arithmetic
with bare tensors: no modules, no host. Neither writes rows; what they take no program around them can undercut.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from studies import markdown, prepare
from turns import ROUND, Run, describe_machine, gcn, measure, milliseconds, parse, ratio

SETTINGS = (("Cora", 16, 0.35), ("Cora", 64, 0.35), ("PubMed", 16, 0.35), ("PubMed", 64, 0.6))  # bars of sparse_input
EXACT = 1.05


class Bare:
    """The loop that one would write by hand: one graph, one model, validation accuracy in every epoch."""

    def __init__(self, config: Any) -> None:
        from torch_geometric import seed_everything
        from torch_geometric.graphgym.loader import create_loader
        from torch_geometric.graphgym.model_builder import create_model
        from torch_geometric.graphgym.optim import create_optimizer, create_scheduler

        from gkd_plugin import host

        with host.scoped(config.cfg.clone()):
            seed_everything(1)
            self.batch = next(iter(create_loader()[0]))
            self.model = create_model(to_device=False)
            self.optimizer = create_optimizer(self.model.parameters(), host.cfg.optim)
            self.scheduler = create_scheduler(self.optimizer, host.cfg.optim)
            self.own = host.snapshot()

    def __call__(self) -> None:
        import torch
        from torch.nn import functional

        from gkd_plugin import host

        with host.scoped(self.own):
            for split in ("train", "val"):
                self.model.train(split == "train")
                with torch.set_grad_enabled(split == "train"):
                    inside = copy.copy(self.batch)
                    inside.split = split
                    pred, true = self.model(inside)
                    loss = functional.cross_entropy(pred, true)
                if split == "train":
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                else:
                    (pred.argmax(1) == true).float().mean().item()
            self.scheduler.step()


class SparseBare(Bare):
    """The same, with sparse products in the place of its graph convolutions."""

    def __init__(self, config: Any) -> None:
        from torch_geometric.nn import GCNConv
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        from gkd_plugin.ops.sparse import SparseMatrix

        super().__init__(config)
        x, nodes = self.batch.x, self.batch.num_nodes
        edges, weights = gcn_norm(self.batch.edge_index, None, nodes, add_self_loops=True, dtype=x.dtype)
        adjacency, features = SparseMatrix.of_entries(edges.flip(0), weights, (nodes, nodes)), SparseMatrix.of(x)

        def convolve(conv: Any, rows: Any, *_: Any) -> Any:
            mapped = features.product(conv.lin.weight.t()) if rows is x else conv.lin(rows)
            return adjacency.product(mapped) + conv.bias

        for module in self.model.modules():
            if isinstance(module, GCNConv):
                module.forward = partial(convolve, module)  # type: ignore[method-assign]


class ByHand:
    """Two graph convolutions and a classifier on bare tensors, by sparse products; trained and evaluated in every epoch."""

    def __init__(self, config: Any) -> None:
        import torch
        from torch_geometric.graphgym.loader import create_loader
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        from gkd_plugin import host
        from gkd_plugin.ops.sparse import SparseMatrix

        with host.scoped(config.cfg.clone()):
            self.data = data = next(iter(create_loader()[0]))
            width, self.dropout, optim = host.cfg.gnn.dim_inner, host.cfg.gnn.dropout, host.cfg.optim.clone()
        nodes, classes = data.num_nodes, int(data.y.max()) + 1
        edges, weights = gcn_norm(data.edge_index, None, nodes, add_self_loops=True, dtype=data.x.dtype)
        self.adjacency = SparseMatrix.of_entries(edges.flip(0), weights, (nodes, nodes))
        self.features = SparseMatrix.of(data.x)
        shapes = ((data.x.size(1), width), (width, width), (width, classes))
        self.weights = [torch.empty(shape).uniform_(-0.1, 0.1).requires_grad_() for shape in shapes]
        self.biases = [torch.zeros(shape[1], requires_grad=True) for shape in shapes]
        learned = [*self.weights, *self.biases]
        self.optimizer = torch.optim.Adam(learned, lr=optim.base_lr, weight_decay=optim.weight_decay)

    def __call__(self) -> None:
        import torch
        from torch.nn import functional

        data = self.data
        for training, mask in ((True, data.train_mask), (False, data.val_mask)):
            with torch.set_grad_enabled(training):
                hidden = self.features.product(self.weights[0])
                for layer in (0, 1):
                    hidden = self.adjacency.product(hidden if layer == 0 else hidden @ self.weights[1])
                    hidden = functional.relu(functional.dropout(hidden + self.biases[layer], self.dropout, training))
                pred = torch.addmm(self.biases[2], hidden, self.weights[2])[mask]
                loss = functional.cross_entropy(pred, data.y[mask])
            if training:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            else:
                (pred.argmax(1) == data.y[mask]).float().mean().item()


def lightning(config: Any, epochs: int) -> float:
    """CPU seconds of an epoch of the host's own training, its rows written as it writes them; the first does not count."""
    from torch_geometric import seed_everything
    from torch_geometric.graphgym.logger import LoggerCallback
    from torch_geometric.graphgym.model_builder import create_model
    from torch_geometric.graphgym.train import GraphGymDataModule, train
    from torch_geometric.graphgym.utils.device import auto_select_device

    from gkd_plugin import host

    stamps: list[float] = []
    plain = LoggerCallback.on_train_epoch_start

    def stamped(self: Any, *args: Any) -> None:
        stamps.append(time.process_time())
        plain(self, *args)

    with host.scoped(config.cfg.clone()), tempfile.TemporaryDirectory() as folder:
        host.cfg.out_dir = host.cfg.run_dir = folder
        host.cfg.train.mode, host.cfg.optim.max_epoch = "standard", epochs + 2
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
    return (stamps[-1] - stamps[1]) / (len(stamps) - 2)


def main() -> None:
    """Measures in turns and prints one table."""
    asked = parse(str(__doc__), rounds=3)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        datasets = prepare(asked.data, Path(scratch), ["Cora", "PubMed"])
        for name, width, bar in SETTINGS:
            exact, out = gcn(datasets, name, width), Path(scratch) / f"{name}{width}"
            sparse = gcn(datasets, name, width, "kd.sparse_input", "true")
            bars = {"`gkd run`": EXACT, "`gkd run`, kd.sparse_input": bar}
            sides = {"bare loop": Bare(exact), "`gkd run`": Run(exact, out / "exact")}
            sides["`gkd run`, kd.sparse_input"] = Run(sparse, out / "sparse")
            sides |= {"bare loop, sparse": SparseBare(exact), "by hand, sparse": ByHand(exact)}
            times: dict[str, list[float]] = {}
            hosts = "the host's Lightning training"
            for _ in range(asked.rounds):
                for side, each in measure(sides, 1, warm=0 if times else 2).items():
                    times.setdefault(side, []).extend(each)
                times.setdefault(hosts, []).append(lightning(exact, ROUND // 2))
            for side, each in times.items():
                found, text = ratio(each, times["bare loop"])
                verdict = [f"{bars[side]:g}", "yes" if found <= bars[side] else "no"] if side in bars else ["-", "-"]
                over_host = ratio(each, times[hosts])[1]
                rows.append([f"{name}, GCN 2 x {width}", side, milliseconds(each), text, *verdict, over_host])
    print(markdown(["graph", "", "epoch, ms", "over the bare loop", "bar", "met", "over the host"], rows))
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
