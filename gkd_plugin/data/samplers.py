"""What keeps the host from making a sampler of one graph: a key that it lacks, a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch_geometric.typing
from torch_geometric.data import Data
from torch_geometric.graphgym import register
from torch_geometric.loader import NeighborSampler
from yacs.config import CfgNode

from gkd_plugin.data.loaders import FORMAT, LOADERS
from gkd_plugin.data.names import DATA_SETS
from gkd_plugin.errors import describe_error

SAMPLERS = ("full_batch", "neighbor", "random_node", "saint_rw", "saint_node", "saint_edge", "cluster")
_SEVERAL = ("PPI", "MNIST", "QM7b")  # data sets of many graphs, and TU_<name>: the host serves them as full_batch does
_INSTEAD = "or write full_batch."


def serves_one_graph(own: CfgNode) -> bool | None:
    """Whether a data set is one graph, of which alone the host makes a sampler; ``None`` where only its loader knows.

    Args:
        own (CfgNode): A configuration of the host.
    """
    name = str(own.dataset.name)
    if own.dataset.task == "graph":
        return False
    if not set(register.loader_dict) <= set(LOADERS):  # a user's may answer to any name
        return None
    if own.dataset.format == "OGB":
        return not name.startswith("ogbg")
    if own.dataset.format == FORMAT and name in DATA_SETS:
        return not DATA_SETS[name].many
    return own.dataset.format in ("PyG", FORMAT) and name not in _SEVERAL and not name.startswith("TU_")


def find_uncertain_samplers(own: CfgNode) -> Iterator[str]:
    """A warning for each sampler that cannot be made, where it is not known whether one will be needed.

    Args:
        own (CfgNode): A configuration of the host.
    """
    for part in ("train", "val"):
        word = own[part].sampler
        wrong = find_sampler_problem(word, own) if serves_one_graph(own) is None else None
        if wrong is not None:
            yield f"{part}.sampler: if '{own.dataset.name}' is one graph, '{word}' {wrong[0]}. {wrong[1]}"


def find_sampler_problem(sampler: str, own: CfgNode) -> tuple[str, str] | None:
    """What is missing for a sampler, and what to do; ``None`` where nothing is known to be.

    Args:
        sampler (str): One of ``SAMPLERS``.
        own (CfgNode): A configuration of the host.
    """
    sparse, metis = torch_geometric.typing.WITH_TORCH_SPARSE, torch_geometric.typing.WITH_METIS
    if sampler in ("random_node", "cluster") and "train_parts" not in own.train:
        found = "makes the host read a key train.train_parts that it does not have"
        return found, f"Register the key (custom_graphgym/config), {_INSTEAD}"
    if sampler.startswith("saint_") and not sparse:
        return "needs the package torch-sparse", f"Install it: pip install torch-sparse; {_INSTEAD}"
    if sampler == "cluster" and not (sparse or metis):
        return "needs the package pyg-lib", f"Install it: pip install pyg-lib (or torch-sparse); {_INSTEAD}"
    if sampler == "neighbor":
        return _try_neighbor_sampler()
    return None


def _try_neighbor_sampler() -> tuple[str, str] | None:
    """Makes one as the host does: it hands over the graph, where PyG's takes the edges, and no package mends that."""
    graph = Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0, 1], [1, 0]]))
    try:
        NeighborSampler(graph, sizes=[1])
    except ImportError as error:
        return (
            f"needs a compiled package ({describe_error(error)})",
            f"Install it: pip install torch-sparse; {_INSTEAD}",
        )
    except Exception as error:
        found = f"cannot be made by this host: it hands PyG's NeighborSampler a whole graph ({describe_error(error)})"
        return found, "Write full_batch."
    return None
