"""What peers cost: an epoch of M students that teach each other over M epochs of one on labels alone.

    python benchmarks/cohort_costs.py --data ../shared/data

GCNs of two layers of width 64 on PubMed under ``alignahead`` and ``alignahead_pp``, and ``alignahead`` with four as its paper
describes the procedure: every peer is evaluated again for each learner, and both distributions are computed anew for each
pair of layers (``published``; ``published, our kernel`` has the distances from ``gkd_plugin`` and nothing else). All three
must give the same losses, or the script stops. ``structure of a student: its loops alone`` are the distributions of one student's two
layers when it learns and when it is read, with nothing around them and in a warm cache; ``supervised, then these loops`` is an
epoch on labels only with the same loops after it, which then find nothing in the cache. ``features of a student: their formula alone``
are the squared differences of its two layers from those of three peers, and their gradients. Over-smoothing is measured every 20 epochs
(``kd.measure_period``), as diagnostics are. The published procedure is measured at the end, in turns with ``alignahead, 4``, which is
measured again for it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from offline_costs import local_structure
from studies import markdown, prepare
from turns import ROUND, Run, describe_machine, gcn, measure, milliseconds, parse, ratio

COHORTS = (
    ("alignahead", 2, 1.15),
    ("alignahead", 4, 1.15),
    ("alignahead", 8, 1.15),
    ("alignahead_pp", 4, 1.3),
)
NAIVE, FASTER = 4, 3.0  # students of the published procedure, and how much faster ours must be
OURS = f"alignahead, {NAIVE}"
ALONE = "structure of a student: its loops alone"
AFTER = "supervised, then these loops"
FEATURES = "features of a student: their formula alone"


class Published:
    """The published procedure, on students that ``gkd run`` built: nothing that is computed is used twice.

    Args:
        run (Run): Where the students come from.
        ours (bool): Whether the distances come from our kernel.
    """

    def __init__(self, run: Run, ours: bool) -> None:
        from gkd_plugin.ops.edges import edges

        self.trainer, self.own, self.ours = run.trainer, run.own, ours
        self.sample = run.trainer.feeds[0].single
        graph = self.sample.graph("train")
        self.edges = edges(graph.edge_index, graph.num_nodes, True)
        self.losses: list[float] = []

    def __call__(self) -> None:
        """Trains every student once, in turn, then looks at all on validation."""
        from gkd_plugin import host

        trainer = self.trainer
        with host.scoped(self.own):
            trainer.feeds[0].skip()  # draws what our epoch draws before it begins
            self.losses = [self.step(student) for student in trainer.students]
            for student in trainer.students:
                student.scheduler.step()
                with student.model.untouched():
                    pred, true = self.sample.answers(student.model.observe(self.sample), "val")
                    float((pred.argmax(1) == true).float().mean())

    def step(self, student: Any) -> float:
        """One step of one student; its loss before it."""
        import contextlib

        from torch.nn.functional import cross_entropy

        stream = (
            contextlib.nullcontext() if student.number == 1 else self.trainer.streams.use(f"train/{student.number}")
        )
        student.model.module.train()
        with stream:
            seen = student.model.observe(self.sample, ("conv",))
        loss = cross_entropy(*self.sample.answers(seen, "train"))
        peers = [peer for peer in self.trainer.students if peer is not student]
        group = student.objective.groups[0]
        for peer in peers:
            with peer.model.untouched():
                theirs = peer.model.observe(self.sample, ("conv",))
            weights = group.matrices[peer.number]
            for row, column in weights.nonzero().tolist():
                gap = self.compare(seen.layer("conv", row + 1), theirs.layer("conv", column + 1))
                loss = loss + float(group.group["weight"]) / len(peers) * weights[row, column] * gap
        student.optimizer.zero_grad()
        loss.backward()
        student.optimizer.step()
        return float(loss.detach())

    def compare(self, own: Any, source: Any) -> Any:
        """The divergence of two layers' distributions over the neighbours of each node."""
        s, q = self.distribution(own), self.distribution(source.detach())
        return (q * (q.log() - s.log())).sum() / self.edges.num_nodes

    def distribution(self, states: Any) -> Any:
        """The softmax over the neighbours of each node, as one writes it with PyG."""
        import torch
        from torch_geometric.utils import softmax

        from gkd_plugin.space.kernels import manhattan_on

        u, v = self.edges.index
        far = manhattan_on(states, self.edges) if self.ours else (states[u] - states[v]).abs().sum(-1)
        return softmax(torch.exp(-far / 100), v, num_nodes=self.edges.num_nodes)


def features(nodes: int, width: int, peers: int) -> Any:
    """Two layers compared with two of each peer, as ``kd_feature`` of ``alignahead_pp`` does; value and gradient."""
    import torch
    from torch.nn import functional

    layers = [torch.randn(nodes, width, requires_grad=True) for _ in range(2)]
    others = [torch.randn(nodes, width) for _ in range(2 * peers)]
    gaps = [(layers[place % 2], other) for place, other in enumerate(others)]
    return lambda: torch.autograd.grad(sum(functional.mse_loss(x, y) for x, y in gaps), layers)


def require_same(run: Run, naive: Published) -> None:
    """Trains both for an epoch and compares the losses."""
    import torch

    from gkd_plugin.training.step import Updates

    totals: list[float] = []
    plain = Updates.step

    def step(self: Any, student: Any, *args: Any) -> None:
        forward = student.objective.forward

        def keep(*values: Any) -> Any:
            found = forward(*values)
            totals.append(float(found[0].detach()))
            return found

        student.objective.forward = keep
        plain(self, student, *args)
        student.objective.forward = forward

    Updates.step = step  # type: ignore[method-assign]
    torch.manual_seed(2)
    try:
        run()
    finally:
        Updates.step = plain  # type: ignore[method-assign]
    torch.manual_seed(2)
    naive()
    far = max(abs(a - b) / abs(a) for a, b in zip(totals, naive.losses, strict=True))
    print(f"losses of an epoch, largest relative difference: {far:.1e}")
    if far > 1e-5:
        raise SystemExit(f"the published procedure gives other losses: {totals}, {naive.losses}")


def main() -> None:
    """Measures in turns and prints one table."""
    asked = parse(str(__doc__), rounds=4)
    from gkd_plugin.data.keep import keep_data

    with tempfile.TemporaryDirectory() as scratch, keep_data():
        datasets = prepare(asked.data, Path(scratch), ["PubMed"])

        def cohort(preset: str, students: int, name: str) -> Run:
            words = ("kd.preset", preset, "kd.students", str(students), "kd.measure_period", str(ROUND))
            return Run(gcn(datasets, "PubMed", 64, *words), Path(scratch) / name)

        published, kernel = f"{OURS}, published", f"{OURS}, published, our kernel"
        naive = {name: Published(cohort("alignahead", NAIVE, name), name == kernel) for name in (published, kernel)}
        sides: dict[str, Any] = {"supervised": Run(gcn(datasets, "PubMed", 64), Path(scratch) / "supervised")}
        sides |= {f"{preset}, {m}": cohort(preset, m, f"{preset}{m}") for preset, m, _ in COHORTS} | naive
        for each in naive.values():
            require_same(cohort("alignahead", NAIVE, "fresh"), each)
        times = measure(sides, asked.rounds, ROUND // asked.rounds)  # all rounds together are one round of turns.py
        graph = next(iter(sides["supervised"].trainer.feeds[0])).batch
        learns, read = (local_structure(graph.edge_index, graph.num_nodes, 64, learns) for learns in (True, False))
        beside = Run(gcn(datasets, "PubMed", 64), Path(scratch) / "beside")

        def loop() -> None:
            for part in (learns, read, learns, read):
                part()

        def train_then_loop() -> None:
            beside()
            loop()

        alone = {ALONE: loop, AFTER: train_then_loop, FEATURES: features(graph.num_nodes, 64, NAIVE - 1)}
        times |= measure(alone, asked.rounds, ROUND // asked.rounds)
        slow = measure({OURS: sides[OURS]} | naive, rounds=2, epochs=1, warm=1)
    base = times["supervised"]
    rows = [["supervised", milliseconds(base), "-", "-", "-", "-"]]
    for preset, students, bar in COHORTS:
        each = times[f"{preset}, {students}"]
        found, text = ratio(each, base, students, together=True)
        rows.append(
            [f"{preset}, {students}", milliseconds(each), text, "-", f"{bar:g}", "yes" if found <= bar else "no"]
        )
    rows += [
        [name, milliseconds(times[name]), ratio(times[name], base, together=True)[1], "-", "-", "-"] for name in alone
    ]
    for name in naive:
        found, text = ratio(slow[name], slow[OURS])
        rows.append([name, milliseconds(slow[name]), "-", text, f">= {FASTER:g}", "yes" if found >= FASTER else "no"])
    head = ["PubMed, GCN 2 x 64", "epoch, ms", "over students x supervised", f"over {OURS}", "bar", "met"]
    print(markdown(head, rows))
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
