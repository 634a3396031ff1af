"""The frame of our networks: encoder, hidden layers ``mp``, and a last layer that ends in the host's read-out."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.graphgym.init import init_weights
from torch_geometric.graphgym.models.gnn import FeatureEncoder, GNNPreMP
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.host import cfg
from gkd_plugin.models.networks.node_types import NodeTypeInput
from gkd_plugin.models.networks.parts import STAGES, GraphReadOut, HiddenLayer, NodeReadOut, OnNodes, Stage
from gkd_plugin.schema import Choice, Key, Number

GROUP = "gkd_model"
SHARED_KEYS = (
    Key("input_dropout", 0.0, Number(0, below=1), "dropout on the features before the first layer"),
    Key(
        "dropout_place",
        "before_act",
        Choice(("before_act", "after_act")),
        "where gnn.dropout stands in a hidden layer; before_act is the host's place (the same for relu)",
    ),
    Key(
        "batchnorm",
        "affine",
        Choice(("affine", "plain")),
        "plain: gnn.batchnorm without affine map and running statistics, as GKD's networks have it",
    ),
)


class Network(nn.Module):
    """A network of the host (``model.type``) whose last layer is of the same kind as its hidden ones.

    The ``gnn.layers_mp`` hidden layers are the children of ``mp``; each has its convolution as ``layer`` and what
    follows it as ``post_layer``, like the host's. The configuration is read here and never again, so a forward pass
    gives the same whatever the global one says by then.

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    Attributes:
        keys (tuple of Key): What it reads of the group ``gkd_model``. A subclass writes ``(*SHARED_KEYS, Key(...))``.
        stages (tuple of str): The values of ``gnn.stage_type`` that it allows.
        most_pre_mp (int, optional): The largest ``gnn.layers_pre_mp`` that it allows.

    Raises:
        ConfigError: If a key of the configuration means nothing here.
    """

    keys: ClassVar[tuple[Key, ...]] = SHARED_KEYS
    stages: ClassVar[tuple[str, ...]] = STAGES
    most_pre_mp: ClassVar[int | None] = None

    def __init__(self, dim_in: int, dim_out: int, **_: Any) -> None:
        super().__init__()
        found = self.check(cfg)
        if found:
            raise ConfigError(found)
        self.values = groups.read(cfg, GROUP, self.keys)
        types = cfg.share.get("node_types")
        by_type = types and not cfg.dataset.node_encoder
        self.encoder = NodeTypeInput(types, cfg.gnn.dim_inner) if by_type else FeatureEncoder(dim_in)
        width = self.encoder.dim_in
        if self.values["input_dropout"] > 0:
            self.input_dropout = OnNodes(nn.Dropout(self.values["input_dropout"]), edges=False)
        pre_mp = self.before(width)
        if pre_mp is not None:
            self.pre_mp, width = pre_mp, cfg.gnn.dim_inner
        layers, width = self._hidden_layers(width)
        self.mp = Stage(layers, cfg.gnn.stage_type, cfg.gnn.l2norm and bool(layers))
        last = self.last(width, dim_out)
        graphs = cfg.dataset.task == "graph"
        self.post_mp = GraphReadOut(last, cfg.model.graph_pooling) if graphs else NodeReadOut(last)
        if not by_type:
            self.encoder.apply(init_weights)  # users' encoders begin as in the host's network

    def hidden_width(self) -> int:
        """The width of every hidden layer."""
        return int(cfg.gnn.dim_inner)

    def before(self, dim_in: int) -> nn.Module | None:
        """The layer before the hidden layers that gives ``gnn.dim_inner`` channels, if any."""
        count = cfg.gnn.layers_pre_mp
        return GNNPreMP(dim_in, cfg.gnn.dim_inner, count) if count > 0 else None

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        """The convolution of hidden layer ``number`` (from 1): takes a batch, sets ``batch.x``, returns the batch."""
        raise NotImplementedError

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        """The layer that gives the logits; it has a bias."""
        raise NotImplementedError

    def _hidden_layers(self, dim_in: int) -> tuple[list[HiddenLayer], int]:
        skip, width, d_in = cfg.gnn.stage_type, self.hidden_width(), dim_in
        layers: list[HiddenLayer] = []
        for number in range(1, cfg.gnn.layers_mp + 1):
            if skip == "skipsum" and d_in != width:
                found = f"skipsum adds {d_in} channels to the {width} of layer {number}"
                allowed = "Make them equal by gnn.layers_pre_mp: 1 (and one head), or set gnn.stage_type: stack."
                raise ConfigError([Problem("gnn.stage_type", found, allowed)])
            layers.append(HiddenLayer(self.hidden(d_in, width, number), width, cfg, self.values))
            d_in = dim_in + number * width if skip == "skipconcat" else width
        return layers, width if layers else dim_in

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        for module in self.children():
            batch = module(batch)
        return batch  # type: ignore[no-any-return] # the last child is the read-out

    @classmethod
    def check(cls, own: CfgNode) -> list[Problem]:
        """Keys of a configuration that are wrong or have no meaning for this network."""
        name = own.model.type
        found = groups.find_problems(own, GROUP, cls.keys) + refuse_unread(own, cls.keys)
        if own.gnn.stage_type not in cls.stages:
            found.append(Problem("gnn.stage_type", f"{own.gnn.stage_type!r}", f"{name} has {', '.join(cls.stages)}."))
        if cls.most_pre_mp is not None and own.gnn.layers_pre_mp > cls.most_pre_mp:
            allowed = f"{name} has one linear layer of its own before the others: 0 or 1."
            found.append(Problem("gnn.layers_pre_mp", f"{own.gnn.layers_pre_mp}", allowed))
        if own.gnn.layers_post_mp > 1:
            allowed = f"{name} ends in one layer: 0 or 1. For a deeper read-out take model.type: gnn."
            found.append(Problem("gnn.layers_post_mp", f"{own.gnn.layers_post_mp}", allowed))
        if own.dataset.task not in ("node", "graph"):
            allowed = f"{name} does node and graph tasks. For edges take model.type: gnn."
            found.append(Problem("dataset.task", f"{own.dataset.task!r}", allowed))
        if "batchnorm" in groups.read_written(own, GROUP) and not own.gnn.batchnorm:
            found.append(Problem(f"{GROUP}.batchnorm", "does not apply", "Set gnn.batchnorm: true, or drop this key."))
        return found


def refuse_unread(own: CfgNode, keys: tuple[Key, ...]) -> list[Problem]:
    """Keys of ``gkd_model`` that the user wrote and the network does not read."""
    reads = [key.name for key in keys]
    allowed = f"model.type: {own.model.type} reads {', '.join(reads) or 'no key of this group'}."
    return [
        Problem(f"{GROUP}.{key}", "does not apply", allowed)
        for key in groups.read_written(own, GROUP)
        if key not in reads
    ]
