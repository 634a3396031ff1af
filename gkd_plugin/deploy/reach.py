"""How much of a graph one answer reads: the neighbourhood within as many hops as the network has convolutions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import k_hop_subgraph

from gkd_plugin.deploy.cost import Timing, clock, summarise
from gkd_plugin.models.trained import TrainedStudent

_CHECKED = 5  # nodes whose answers are compared
_EQUAL = 1e-4  # of the largest logit


@dataclass(frozen=True)
class Reach:
    """What the answers for a sample of test nodes read.

    Args:
        hops (int): How far they reach.
        rim (bool): Whether that is one hop more than there are convolutions: normalisation reads the degrees of the rim.
        nodes, edges (tuple of float): Median and 95 % quantile over the sample.
        count (int): Nodes in the sample.
    """

    hops: int
    rim: bool
    nodes: tuple[float, float]
    edges: tuple[float, float]
    count: int


def take_neighbourhood(graph: Data, node: int, hops: int) -> tuple[Data, int]:
    """The part of a graph within some hops of a node, and the node's place in it.

    Args:
        graph (Data): The graph.
        node, hops (int): The node, and how far to go against the edges.
    """
    chosen, _, place, _ = k_hop_subgraph(node, hops, graph.edge_index, num_nodes=graph.num_nodes)
    part: Data = graph.subgraph(chosen)
    return part, int(place)


def find_hops(student: TrainedStudent, graph: Data, nodes: Sequence[int]) -> tuple[int, bool] | None:
    """How far answers reach: the number of convolutions, or one more where the degrees at the rim count.

    Args:
        student (TrainedStudent): The student.
        graph (Data): The graph.
        nodes (sequence of int): Nodes; of some, the answer on the neighbourhood is compared with that on the whole graph.

    Returns:
        tuple: The hops, and whether it is one more; ``None`` where neither gives the same answers.
    """
    with torch.no_grad():
        depth, full = _count_convolutions(student, graph)
        for hops in (depth, depth + 1):
            if all(_is_same(student, graph, node, hops, full[node]) for node in nodes[:_CHECKED]):
                return hops, hops > depth
    return None


def _is_same(student: TrainedStudent, graph: Data, node: int, hops: int, expected: Tensor) -> bool:
    part, place = take_neighbourhood(graph, node, hops)
    difference = (student(part)[place] - expected).abs().max()
    return bool(difference <= _EQUAL * max(1.0, float(expected.abs().max())))


def _count_convolutions(student: TrainedStudent, graph: Data) -> tuple[int, Tensor]:
    called: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in student.modules()
        if isinstance(module, MessagePassing)
    ]
    try:
        full: Tensor = student(graph)
        return len(called), full
    finally:
        for handle in handles:
            handle.remove()


def measure_neighbourhoods(
    students: Mapping[str, TrainedStudent],
    hops: Mapping[str, tuple[int, bool]],
    graph: Data,
    nodes: Sequence[int],
    device: torch.device,
    seconds: float = 6.0,
) -> tuple[dict[str, Timing], dict[str, Reach]]:
    """How long each student takes for one node, given its neighbourhood, node by node in turns; and how large those are.

    Args:
        students (mapping): The students by name, on the device.
        hops (mapping): What :func:`find_hops` found of each.
        graph (Data): The graph, in main memory.
        nodes (sequence of int): The sample.
        device (torch.device): Where to run.
        seconds (float): About how long to measure, cutting out included; three nodes are measured at least.
    """
    times: dict[str, list[float]] = {name: [] for name in students}
    sizes: dict[str, list[tuple[int, int]]] = {name: [] for name in students}
    begin = time.perf_counter()
    for number, node in enumerate(nodes):
        if number >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, student in students.items():
            part = take_neighbourhood(graph, node, hops[name][0])[0]
            sizes[name].append((int(part.num_nodes), int(part.num_edges)))
            there = part.to(device)
            clock(partial(student, there), device)  # to warm up
            times[name].append(clock(partial(student, there), device))
    found = {}
    for name, measured in sizes.items():
        columns = [tuple(np.quantile(column, (0.5, 0.95)).tolist()) for column in zip(*measured, strict=True)]
        found[name] = Reach(*hops[name], columns[0], columns[1], len(measured))
    return {name: summarise(each) for name, each in times.items()}, found
