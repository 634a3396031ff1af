"""The group ``gkd_model``: what our networks need beyond the host's own keys."""

from __future__ import annotations

from gkd_plugin.schema import Choice, Key, Number

GROUP = "gkd_model"

KEYS: tuple[Key, ...] = (
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
    Key(
        "heads",
        1,
        Number(1, integer=True),
        "gat: heads of a hidden layer, concatenated (heads x dim_inner wide)",
    ),
    Key("out_heads", 1, Number(1, integer=True), "gat: heads of the last convolution, averaged"),
    Key(
        "residual",
        "none",
        Choice(("none", "dgl", "pyg")),
        "gat: pyg: a linear skip with bias around every layer; dgl: no biases, a linear skip for each head from the "
        "second layer on",
    ),
    Key("negative_slope", 0.2, Number(0), "gat: slope of the leaky rectifier of the attention"),
    Key("attention_dropout", 0.0, Number(0, below=1), "gat: dropout on attention coefficients"),
    Key(
        "aggregator",
        "mean",
        Choice(("mean", "pool", "gcn")),
        "sage: mean; pool: the maximum of projected neighbours; gcn: the mean over neighbours and the node, one weight",
    ),
    Key("alpha", 0.1, Number(0, below=1), "gcnii: share of the initial residual"),
    Key("lam", 0.5, Number(0), "gcnii: layer l maps with log(lam / l + 1) W and is the identity for the rest"),
)
