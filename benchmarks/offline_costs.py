"""What a stored teacher costs: an epoch of offline methods over an epoch on labels alone.

    python benchmarks/offline_costs.py --data ../shared/data

A GCN of two layers on Cora (width 16) and on PubMed (width 64), one student; the teacher, a GCN of width 64, is read once.
Training, validation, rows and records in every epoch. A row ``alone`` is the least that a term's formula asks for, value and
gradient, over and over in a warm cache and without a loop around it: for ``gcrd`` and ``fitnet`` the matrix products, at the
sizes of their presets; for all but ``gcrd`` the formula in as few operations and compiled loops as it takes (``abkd`` and
``fitnet`` with the step of what they learn). No way to compute the term can bring an epoch below 1 plus that ratio.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from studies import markdown, prepare
from turns import Run, describe_machine, gcn, measure, milliseconds, parse, ratio

BARS = {"soft_target": 1.05, "lsp": 1.1, "abkd": 1.1, "gcrd": 1.5, "gsp": 1.5, "fitnet": 1.5}
GRAPHS = (("Cora", 16, 4), ("PubMed", 64, 1))  # name, width, how many times the rounds


def products(*shapes: tuple[int, int, int]) -> Any:
    """Does nothing but matrix products, ``[a, b] @ [b, c]`` of each shape."""
    import torch

    pairs = [(torch.randn(a, b), torch.randn(b, c)) for a, b, c in shapes]
    return lambda: [x @ y for x, y in pairs]


def response(nodes: int, classes: int) -> Any:
    """The divergence from a known answer, and its gradient."""
    import torch
    from torch.nn import functional

    logits, answer = torch.randn(nodes, classes, requires_grad=True), torch.randn(nodes, classes).softmax(-1)
    return lambda: torch.autograd.grad(functional.kl_div(logits.log_softmax(-1), answer, reduction="batchmean"), logits)


def local_structure(edge_index: Any, nodes: int, width: int, learns: bool = True, lsp: bool = False) -> Any:
    """The distributions over edges, their divergence from known ones, and its gradient where it ``learns``: those of
    ``alignahead``, or of ``lsp``, which has another distance and no self-loops.
    """
    import torch

    from gkd_plugin.ops import compiled, edges

    rows, domain = torch.randn(nodes, width, requires_grad=learns), edges.edges(edge_index, nodes, loops=not lsp)
    pairs, place = domain.unordered  # each edge has two directions and one distance
    known = domain.log_softmax(torch.zeros(domain.num_pairs), "in_edges")

    def compute() -> Any:
        apart = compiled.measure(compiled.SQUARED if lsp else compiled.MANHATTAN, rows, pairs)
        own = domain.log_softmax(torch.exp(-apart / (200 if lsp else 100)).index_select(0, place), "in_edges")
        return torch.autograd.grad((known.exp() * (known - own)).sum(), rows) if learns else own

    return compute


def attention(nodes: int, width: int, source: int, dim: int = 64) -> Any:
    """Two layers of both sides, pooled, weighed by attention and compared in a subspace; gradients, and the term's own step."""
    import torch
    from torch.nn import functional

    def learned(*shape: int) -> Any:
        return torch.randn(*shape, requires_grad=True)

    states, source_states = [learned(nodes, width) for _ in range(2)], [torch.randn(nodes, source) for _ in range(2)]
    query, key, subspace = learned(2, dim, width), learned(2, dim, source), learned(dim, dim)
    maps, source_maps = [learned(dim, width) for _ in range(2)], [learned(dim, source) for _ in range(2)]
    offsets = [learned(dim) for _ in range(4)]
    parameters = [query, key, subspace, *maps, *source_maps, *offsets]
    optimizer = torch.optim.Adam(parameters)

    def project(rows: Any, weight: Any, offset: Any) -> Any:
        return functional.normalize(functional.linear(rows, weight, offset) @ subspace, dim=-1)

    def compute() -> None:
        ours, theirs = ([rows.mean(0, keepdim=True) for rows in side] for side in (states, source_states))
        left, right = query @ torch.stack(ours).mT, key @ torch.stack(theirs).mT
        weights = (left.squeeze(-1) @ right.squeeze(-1).T / dim**0.5).softmax(0)
        x = [project(*each) for each in zip(ours, maps, offsets[:2], strict=True)]
        y = [project(*each) for each in zip(theirs, source_maps, offsets[2:], strict=True)]
        gaps = torch.stack([functional.mse_loss(a, b) for a in x for b in y])
        loss = (weights.flatten() * gaps).sum() / weights.sum()
        found = torch.autograd.grad(loss, [*states, *parameters])
        for parameter, gradient in zip(parameters, found[len(states) :], strict=True):
            parameter.grad = gradient
        optimizer.step()

    return compute


def hint(nodes: int, width: int, source: int, dim: int = 256) -> Any:
    """Both sides mapped, batch-normalised, cut off at 0, scaled to length 1 and compared, the source's moments known;
    gradients, and the term's own step.
    """
    import torch

    from gkd_plugin.ops import rowwise
    from gkd_plugin.space.knowledge.projectors import LinearProjection

    ours, theirs = torch.randn(nodes, width, requires_grad=True), torch.randn(nodes, source)
    left, right = LinearProjection(width, dim, activated=True), LinearProjection(source, dim, activated=True)
    parameters = [*left.parameters(), *right.parameters()]
    optimizer = torch.optim.Adam(parameters)

    def compute() -> None:
        (x, *x_map), (y, *y_map) = left.fold(ours), right.fold(theirs)
        loss = rowwise.unit_gaps(x, y, x_map, y_map, positive=True) / (nodes * dim)
        _, *found = torch.autograd.grad(loss, [ours, *parameters])
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return compute


def main() -> None:
    """Measures in turns and prints one table."""
    asked = parse(str(__doc__), rounds=2)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        from torch_geometric.datasets import Planetoid

        from gkd_plugin.commands.run import run
        from gkd_plugin.data.keep import keep_data

        datasets = prepare(asked.data, Path(scratch), [name for name, _, _ in GRAPHS])
        for name, width, often in GRAPHS:
            out = Path(scratch) / name
            place = ["out_dir", str(out), "optim.max_epoch", "5"]
            run(gcn(datasets, name, 64), overrides=place, name="teacher", quiet=True)
            with keep_data():
                sides = {"supervised": Run(gcn(datasets, name, width), out / "supervised")}
                for preset in BARS:
                    words = ("kd.preset", preset, "kd.teacher", "teacher")
                    sides[preset] = Run(gcn(datasets, name, width, *words), out / preset)
            graph = Planetoid(str(datasets / name), name)[0]
            nodes, classes = int(graph.num_nodes or 0), int(graph.y.max()) + 1
            shapes = [(nodes, width, 256), (nodes, 64, 256), (256, nodes, width), (256, nodes, 64), (nodes, 256, width)]
            alone = {
                "soft_target: its formula alone": response(nodes, classes),
                "lsp: its loops alone": local_structure(graph.edge_index, nodes, width, lsp=True),
                "abkd: its formula alone": attention(nodes, width, 64),
                "gcrd: its products alone": products((1024, 256, 1024), (1024, 1024, 256), (1024, 1024, 256)),
                "fitnet: its products alone": products(*shapes),
                "fitnet: its formula alone": hint(nodes, width, 64),
            }
            times = measure(sides, asked.rounds * often) | measure(alone, asked.rounds * often)
            base = times["supervised"]
            for side, each in times.items():
                found, text = ratio(each, base)
                bar = BARS.get(side)
                verdict = ["-", "-"] if bar is None else [f"{bar:g}", "yes" if found <= bar else "no"]
                rows.append([f"{name}, GCN 2 x {width}", side, milliseconds(each), text, *verdict])
    print(markdown(["graph", "method", "epoch, ms", "over supervised", "bar", "met"], rows))
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
