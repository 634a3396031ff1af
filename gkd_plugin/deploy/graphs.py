"""The graphs of a run's data, parts of them as examples, and what of a graph a network reads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.data import handed
from gkd_plugin.data.load import load
from gkd_plugin.data.loaders import per_split
from gkd_plugin.data.relations import is_type_table
from gkd_plugin.models.inputs import PAIRS
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import infer_task
from gkd_plugin.models.trained import TrainedStudent
from gkd_plugin.training.batches import make_split_loaders

_PAIRS = ("edge_index", "edge_label", PAIRS)  # as train_edge_index
BATCH = 64  # graphs in a batch, and pairs, where these are predicted
_EDGES = 300  # of an example: enough to be a graph, few enough to be quick


def read_graphs(own: CfgNode, seed: int, run: Path) -> list[Data]:
    """The test graphs of a run's data; the one graph where splits are masks.

    Args:
        own (CfgNode): The run's configuration.
        seed (int): Its seed, by which splits may be drawn.
        run (Path): The run's folder; data that were handed over in Python were kept beside it.

    Raises:
        UserError: If the data are missing or damaged.
    """
    own = own.clone()
    own.seed = seed
    if own.dataset.name == handed.NAME:
        own.dataset.dir = str(run.parent)  # wherever the folder has been moved
    loaders = load(own)
    with host.scoped(own):
        test = make_split_loaders(per_split(loaders), infer_task(own), torch.device("cpu"), RandomStreams(seed))[-1]
        batches = [sample.batch for sample in test.samples()]
    return [graph for batch in batches for graph in (batch.to_data_list() if isinstance(batch, Batch) else [batch])]


def choose_graph(graphs: Sequence[Data], level: str) -> tuple[Data, str]:
    """What one pass reads: the graph; of several the first; of graphs that are predicted as a whole a batch.

    Args:
        graphs (sequence of Data): The data.
        level (str): ``node``, ``edge`` or ``graph``: what is predicted.

    Returns:
        tuple: The graph, and what it is in words.
    """
    graph: Data = copy.copy(graphs[0])
    text = "the whole graph"
    if level == "graph":
        graph = Batch.from_data_list(list(graphs[:BATCH]))
        text = f"a batch of {min(BATCH, len(graphs))} test graphs"
    elif len(graphs) > 1:
        text = "the first test graph"
    if level == "edge":
        graph[PAIRS] = torch.randint(0, int(graph.num_nodes), (2, BATCH), generator=torch.Generator().manual_seed(0))
        text += f" and {BATCH} pairs"
    return graph, f"{text} ({graph.num_nodes:,} nodes, {graph.num_edges:,} edges)"


def make_examples(graphs: Sequence[Data], level: str) -> tuple[Batch, Batch]:
    """Two graphs of different sizes: one part of the data, and three others beside one another.

    Args:
        graphs (sequence of Data): The data.
        level (str): ``node``, ``edge`` or ``graph``: what is predicted.
    """
    random = torch.Generator().manual_seed(0)
    if level == "graph":
        chosen = [graphs[number % len(graphs)] for number in range(11)]
        parts = [chosen[:4], chosen[4:]]
    else:
        cut = [_take_part(graphs[number % len(graphs)], random) for number in range(4)]
        parts = [cut[:1], cut[1:]]
    first, second = (Batch.from_data_list(part) for part in parts)
    if level == "edge":
        for graph, count in ((first, 40), (second, 17)):
            graph[PAIRS] = torch.randint(0, max(int(graph.num_nodes), 1), (2, count), generator=random)
    return first, second


def _take_part(data: Data, random: torch.Generator) -> Data:
    """Some edges with their ends, and a few nodes more, which may have none."""
    nodes, count = int(data.num_nodes), int(data.num_edges)
    chosen = torch.randperm(count, generator=random)[: min(_EDGES, (count + 1) // 2)]
    kept = torch.zeros(nodes, dtype=torch.bool)
    kept[data.edge_index[:, chosen].flatten()] = True
    kept[torch.randperm(nodes, generator=random)[:5]] = True
    part = Data(num_nodes=int(kept.sum()))  # which data without x could only guess
    for key in data.keys():
        value = data[key]
        if key != "edge_index" and key.endswith(_PAIRS):
            continue  # the pairs of a split, which may have been drawn anywhere
        if key == "edge_index":
            place = kept.cumsum(0) - 1
            part.edge_index = place[value[:, chosen]]
        elif is_type_table(data, key):
            part[key] = value  # whole: type_row says which rows a part reads
        elif isinstance(value, Tensor) and data.is_node_attr(key):
            part[key] = value[kept]
        elif isinstance(value, Tensor) and data.is_edge_attr(key):
            part[key] = value[chosen]
    return part


def find_inputs(student: TrainedStudent, graph: Batch, level: str) -> list[str]:
    """What of a graph the network reads, ``x`` and ``edge_index`` first: without it the network fails, or answers otherwise.

    Args:
        student (TrainedStudent): The student.
        graph (Batch): Several graphs.
        level (str): ``node``, ``edge`` or ``graph``.
    """
    always = {"graph": ["batch"], "edge": [PAIRS]}.get(level, [])
    keys = [
        key
        for key in graph.keys()
        if isinstance(graph[key], Tensor) and key not in ("x", "edge_index", "y", "ptr", PAIRS)
    ]
    optional = [key for key in keys if key not in always and not key.endswith(("_mask", *_PAIRS))]
    with torch.no_grad():
        full = student(graph)
        read = [key for key in optional if _differs(student, graph, key, full)]
    return [*(["x"] if graph.x is not None else []), "edge_index", *read, *always]


def _differs(student: TrainedStudent, graph: Batch, key: str, full: Tensor) -> bool:
    without = copy.copy(graph)
    without[key] = None
    try:
        return not torch.equal(student(without), full)
    except Exception:  # a network may fail in any way where something is missing
        return True
