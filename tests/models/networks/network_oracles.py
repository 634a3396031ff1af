"""Our networks written again from their equations: dense matrices and loops over nodes, in float64. All with ``elu``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.graphgym.config import cfg


def weights(network: nn.Module, end: str) -> list[Tensor]:
    """The parameters whose name ends so, in the order of the layers."""
    return [value.detach() for name, value in network.named_parameters() if name.endswith(end)]


def adjacency(batch: Batch) -> Tensor:
    """A[v, u] = 1 for every edge u -> v."""
    matrix = torch.zeros(batch.num_nodes, batch.num_nodes, dtype=torch.float64)
    for u, v in batch.edge_index.t().tolist():
        matrix[v, u] = 1
    return matrix


def normalised(batch: Batch) -> Tensor:
    loops = adjacency(batch) + torch.eye(batch.num_nodes, dtype=torch.float64)
    scale = loops.sum(dim=1).rsqrt().diag()
    return scale @ loops @ scale


def slow_gcn(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    h = batch.x
    matrices, biases = weights(network, "lin.weight"), weights(network, "bias")
    for number, (weight, bias) in enumerate(zip(matrices, biases, strict=True), 1):
        h = normalised(batch) @ h @ weight.t() + bias
        h = F.elu(h) if number < len(matrices) else h
    return h


def slow_mlp(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    h = batch.x
    matrices, biases = weights(network, "weight"), weights(network, "bias")
    for number, (weight, bias) in enumerate(zip(matrices, biases, strict=True), 1):
        h = h @ weight.t() + bias
        h = F.elu(h) if number < len(matrices) else h
    return h


def slow_sage(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    kind, h = values["aggregator"], batch.x
    layers = [*network.mp.children(), network.post_mp]
    for number, layer in enumerate(layers, 1):
        part = {name.split("model.")[-1]: p.detach() for name, p in layer.named_parameters()}
        rows = []
        for v in range(batch.num_nodes):
            near = [h[u] for u, w in batch.edge_index.t().tolist() if w == v]
            if kind == "gcn":
                rows.append(part["lin.weight"] @ torch.stack([*near, h[v]]).mean(dim=0) + part["lin.bias"])
                continue
            if kind == "pool":
                near = [(part["lin.weight"] @ row + part["lin.bias"]).relu() for row in near]
            pooled = torch.zeros_like(h[v])
            if near:
                pooled = torch.stack(near).amax(dim=0) if kind == "pool" else torch.stack(near).mean(dim=0)
            rows.append(part["lin_l.weight"] @ pooled + part["lin_l.bias"] + part["lin_r.weight"] @ h[v])
        h = torch.stack(rows)
        h = F.elu(h) if number < len(layers) else h
    return h


def slow_gat(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    h, last = batch.x, cfg.gnn.layers_mp + 1
    for number, layer in enumerate([*network.mp.children(), network.post_mp], 1):
        part = {name.split("model.")[-1]: p.detach() for name, p in layer.named_parameters()}
        heads = values["out_heads"] if number == last else values["heads"]
        sent = (h @ part["conv.lin.weight"].t()).view(batch.num_nodes, heads, -1)
        to, of = part["conv.att_dst"][0], part["conv.att_src"][0]
        rows = []
        for v in range(batch.num_nodes):
            near = sorted({u for u, w in batch.edge_index.t().tolist() if w == v} | {v})
            score = torch.stack([(to * sent[v]).sum(-1) + (of * sent[u]).sum(-1) for u in near])
            alpha = F.leaky_relu(score, values["negative_slope"]).softmax(dim=0)
            rows.append(sum(alpha[i].unsqueeze(-1) * sent[u] for i, u in enumerate(near)))
        out = torch.stack(rows)  # [N, heads, width]
        skip = h @ part["skip.weight"].t() if "skip.weight" in part else torch.zeros(())
        if values["residual"] == "pyg":
            out = out.mean(dim=1) if number == last else out.flatten(1)
            h = out + part["conv.bias"] + skip + part["skip.bias"]
        elif values["residual"] == "dgl":
            out = out + (skip.view_as(out) if number > 1 else 0)
            h = out.mean(dim=1) if number == last else out.flatten(1)
        else:
            h = (out.mean(dim=1) if number == last else out.flatten(1)) + part["conv.bias"]
        h = F.elu(h) if number < last else h
    return h


def slow_gcnii(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    (first, last), (first_bias, last_bias) = (
        weights(network, "linear.weight") + weights(network.post_mp, "weight"),
        weights(network, "bias"),
    )
    start = h = F.elu(batch.x @ first.t() + first_bias)
    for number, weight in enumerate(weights(network, "weight1"), 1):
        beta = math.log(values["lam"] / number + 1)
        mixed = (1 - values["alpha"]) * normalised(batch) @ h + values["alpha"] * start
        h = F.elu(mixed @ ((1 - beta) * torch.eye(len(weight), dtype=torch.float64) + beta * weight))
    return h @ last.t() + last_bias


def slow_rgcn(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    h = batch.x
    edges = list(zip(*batch.edge_index.tolist(), batch.edge_type.tolist(), strict=True))
    layers = [*network.mp.children(), network.post_mp]
    for number, layer in enumerate(layers, 1):
        part = {name.split("model.")[-1]: p.detach() for name, p in layer.named_parameters()}
        weight = part["weight"]
        if values["bases"]:
            weight = torch.stack([sum(a * v for a, v in zip(row, weight, strict=True)) for row in part["comp"]])
        elif weight.dim() == 4:
            weight = torch.stack([torch.block_diag(*blocks) for blocks in weight])
        rows = []
        for v in range(batch.num_nodes):
            row = h[v] @ part["root"] + part["bias"]
            for kind in range(len(weight)):
                near = [h[u] for u, w, r in edges if w == v and r == kind]
                if near:
                    row = row + torch.stack(near).mean(dim=0) @ weight[kind]
            rows.append(row)
        h = torch.stack(rows)
        h = F.elu(h) if number < len(layers) else h
    return h


def slow_neighbours(h: Tensor, k: int, cloud: list[int]) -> list[list[int]]:
    """For each point the ``k`` nearest others of its cloud, of equally near ones the first."""
    found = []
    for v in range(len(h)):
        others = [u for u in range(len(h)) if u != v and cloud[u] == cloud[v]]
        found.append(sorted(others, key=lambda u: (float((h[u] - h[v]).square().sum()), u))[:k])
    return found


def slow_edgeconv(network: nn.Module, batch: Batch, values: dict[str, Any]) -> Tensor:
    return slow_edgeconv_layers(network, batch, values)[-1][0]


def slow_edgeconv_layers(
    network: nn.Module, batch: Batch, values: dict[str, Any]
) -> list[tuple[Tensor, list[list[int]]]]:
    """What each layer gives, before activation in the last, and the neighbours that each of its points listened to."""
    h, layers, found = batch.x, [*network.mp.children(), network.post_mp], []
    near: list[list[int]] = []
    for number, layer in enumerate(layers, 1):
        part = {name.split("model.")[-1]: p.detach() for name, p in layer.named_parameters()}
        if number == 1 or values["moving"]:
            near = slow_neighbours(h, values["k"], batch.batch.tolist())
        rows = []
        for v in range(batch.num_nodes):
            sent = [part["weight"] @ torch.cat([h[v], h[u] - h[v]]) + part["bias"] for u in [*near[v], v]]
            rows.append(torch.stack(sent).amax(dim=0))
        h = torch.stack(rows)
        h = F.elu(h) if number < len(layers) else h
        found.append((h, near))
    return found


EQUATIONS: dict[str, tuple[Callable[..., Tensor], list[dict[str, Any]]]] = {
    "gcn": (slow_gcn, [{}]),
    "mlp": (slow_mlp, [{}]),
    "gcnii": (slow_gcnii, [{}, {"alpha": 0.4, "lam": 1.5}]),
    "edgeconv": (slow_edgeconv, [{"k": 2}, {}, {"k": 1, "moving": False}]),
    "sage": (slow_sage, [{}, {"aggregator": "pool"}, {"aggregator": "gcn"}]),
    "gat": (
        slow_gat,
        [
            {},
            {"heads": 3, "out_heads": 2, "negative_slope": 0.5},
            {"heads": 3, "out_heads": 2, "residual": "pyg"},
            {"heads": 3, "out_heads": 2, "residual": "dgl"},
        ],
    ),
    "rgcn": (slow_rgcn, [{}, {"bases": 2}, {"bases": 5}, {"blocks": 1}]),
}
"""The slow version of each network, and the keys of ``gkd_model`` under which the two are compared."""
