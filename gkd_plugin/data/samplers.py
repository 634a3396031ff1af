"""What keeps a sampler from being made of one graph: a package that is not installed, a task that it does not serve."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch_geometric.typing
from torch_geometric.graphgym import register
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.data.keys import SPLITS
from gkd_plugin.data.loaders import FORMAT, LOADERS
from gkd_plugin.data.names import DATA_SETS
from gkd_plugin.data.protocol import TRANSDUCTIVE

SAMPLERS = ("full_batch", "neighbor", "random_node", "saint_rw", "saint_node", "saint_edge", "cluster")
_SEVERAL = ("PPI", "MNIST", "QM7b")  # data sets of many graphs, and TU_<name>: the host serves them as full_batch does
_INSTEAD = "or write random_node, saint_node, saint_edge or saint_rw, which need none."
_HELPERS = "Install pyg-lib or torch-sparse as PyG's pages say (pip install pyg-lib, from its own index)"


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
    if own.dataset.format == FORMAT and not name.startswith(("TU_", "digits")):  # a data set of the user's
        return None
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
    sparse = torch_geometric.typing.WITH_TORCH_SPARSE
    if sampler != "full_batch" and own.dataset.task in ("edge", "link_pred"):
        return f"serves tasks on nodes, and this is dataset.task: {own.dataset.task}", "Write full_batch."
    if sampler != "full_batch" and groups.read_written(own, SPLITS).get("protocol") not in (None, TRANSDUCTIVE):
        return "gives parts, but splits.protocol holds nodes out of a whole graph", "Write full_batch."
    if sampler == "cluster" and not torch_geometric.typing.WITH_METIS and (not sparse or _lacks_metis()):
        found = ", and the torch-sparse that is installed was built without it" if sparse else ""
        return f"needs a compiled package for METIS{found}", f"{_HELPERS}, {_INSTEAD}"
    if sampler == "neighbor" and not (sparse or torch_geometric.typing.WITH_PYG_LIB):
        return "needs a compiled package", f"{_HELPERS}, {_INSTEAD}"
    return None


def _lacks_metis() -> bool:
    """Whether torch-sparse was built without METIS, as ``pip`` builds it: its operator is there then, and only raises."""
    try:
        partition = torch.ops.torch_sparse.partition
        partition(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), None, 2, False)
    except AttributeError:
        return False
    except RuntimeError:
        return True
    return False
