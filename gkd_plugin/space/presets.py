"""Published methods as points of the design space; keys that a preset does not name have their defaults.

Where no published value could be verified, the summary says *search*: the weight is a place to start.
"""

from __future__ import annotations

from typing import Any

from gkd_plugin.space.answers import Preset

Keys = dict[str, Any]

_ALIGN: Keys = dict(
    source="peers",
    weight=1,
    tap="conv",
    kernel="laplacian",
    kernel_scale=100,
    divergence="kl_source_learner",
    self_loops=True,
)
_ATTEND: Keys = dict(
    weight=1,
    tap="layer",
    layer_map="attention",
    loss="mse",
    projector="linear",
    projector_side="both",
    dim=64,
    normalize="l2",
)


# self-training: sharpened targets on those unlabelled nodes that the source is sure of, faded in
_SHARPENED: Keys = dict(weight=1, sharpen=0.5, confidence=0.8, nodes="unlabeled", schedule="rampup_80")


# graphs of several labels (PPI) belong to one split as a whole: none of their nodes is unlabelled
_EVERY_NODE = {"kd_response": dict(nodes="all")}


def _align_ahead(shift: int) -> Keys:
    return {**_ALIGN, "layer_map": "shift", "shift": shift}


PRESETS: dict[str, Preset] = {
    "supervised": Preset("labels only, the baseline", "gkd_plugin"),
    "label_smoothing": Preset(
        "labels smoothed towards all classes alike, without any teacher",
        "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567",
        {
            "kd": dict(label_weight=0.9),
            "kd_response": dict(source="uniform_prior", weight=0.1, temperature=1, nodes="train"),
        },
    ),
    "soft_target": Preset(
        "softened logits of a teacher",
        "Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531",
        {"kd": dict(label_weight=0.1), "kd_response": dict(weight=0.9, temperature=4, nodes="all")},
        source="teacher",
        multilabel={"kd": dict(label_weight=0.5), "kd_response": dict(weight=0.5, temperature=1)},
    ),
    "glnn": Preset(
        "soft labels of a GNN for a student without edges (model.type: mlp)",
        "Zhang et al., Graph-less Neural Networks, arXiv 2110.08727",
        {"kd": dict(label_weight=0), "kd_response": dict(weight=1, temperature=1, nodes="all")},
        source="teacher",
    ),
    "fitnet": Preset(
        "the teacher's last layer as a hint, both sides projected",
        "Romero et al., FitNets, arXiv 1412.6550",
        {
            "kd_feature": dict(
                weight=1000,
                tap="layer",
                layer_map="last",
                loss="mse",
                projector="linear_bn_relu",
                projector_side="both",
                dim=256,
                normalize="l2",
            )
        },
        source="teacher",
    ),
    "attention_transfer": Preset(
        "how strongly the teacher's last layer is excited at each node",
        "Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928",
        {"kd_feature": dict(weight=1000, tap="layer", layer_map="last", loss="attention", projector="none")},
        source="teacher",
    ),
    "lsp": Preset(
        "the teacher's local structure, as in the paper (search weight and scale)",
        "Yang et al., Distilling Knowledge from Graph Convolutional Networks, arXiv 2003.10477",
        {
            "kd_structure": dict(
                weight=100,
                tap="conv",
                layer_map="last",
                kernel="rbf",
                kernel_scale=10,
                divergence="kl_learner_source",
                self_loops=False,
            )
        },
        source="teacher",
    ),
    "lsp_code": Preset(
        "the teacher's local structure, as in the released code",
        "Yang et al., Distilling Knowledge from Graph Convolutional Networks, arXiv 2003.10477",
        {
            "kd_structure": dict(
                weight=1,
                tap="conv",
                layer_map="pairs",
                pairs="-2~-1",
                kernel="laplacian",
                kernel_scale=100,
                divergence="kl_source_learner",
                self_loops=True,
                schedule="window_0_30",
            )
        },
        source="teacher",
    ),
    "gsp": Preset(
        "similarities of all sampled node pairs (search the weight)",
        "Joshi et al., On Representation Knowledge Distillation for Graph Neural Networks, arXiv 2111.04964",
        {
            "kd_structure": dict(
                weight=1,
                tap="layer",
                layer_map="last",
                domain="all_pairs",
                self_loops=True,
                samples=2048,
                distribution="none",
                kernel="cosine",
                divergence="mse",
                reduction="pair_mean",
            )
        },
        source="teacher",
    ),
    "gcrd": Preset(
        "each node finds itself among the teacher's nodes",
        "Joshi et al., On Representation Knowledge Distillation for Graph Neural Networks, arXiv 2111.04964",
        {
            "kd_contrast": dict(
                weight=0.1,
                tap="layer",
                layer_map="last",
                temperature=0.075,
                dim=256,
                projector="linear_bn_relu",
                samples=1024,
            )
        },
        source="teacher",
    ),
    "gkd": Preset(
        "kernel matrices of a teacher that sees more of the graph",
        "Yang et al., Geometric Knowledge Distillation, arXiv 2210.13014",
        {
            "kd": dict(label_weight=0.5),
            "kd_structure": dict(
                weight=0.5,
                tap="layer",
                layer_map="one_to_one",
                layer_reduction="mean",
                domain="all_pairs",
                self_loops=True,  # the diagonal belongs to the matrices, and W is 1 there
                distribution="none",
                kernel="sigmoid",
                normalize="batchnorm",
                divergence="mse",
                non_edge_weight=0.1,
                reduction="sum",
            ),
        },
        source="teacher",
    ),
    "abkd": Preset(
        "attention over all layer pairs, pooled features (reconstruction; search the weight)",
        "ABKD: Graph Neural Network Compression with Attention-Based Knowledge Distillation, arXiv 2310.15938v1",
        {"kd_feature": {**_ATTEND, "pool": "mean"}},
        source="teacher",
    ),
    "stride": Preset(
        "attention over all layer pairs, node features and contrast (reconstruction; search the weights)",
        "STRIDE: Structure and Embedding Distillation with Attention for Graph Neural Networks, arXiv 2310.15938v2",
        {
            "kd_feature": {**_ATTEND, "pool": "none"},
            "kd_contrast": dict(
                weight=0.1, tap="layer", layer_map="attention", dim=64, projector="linear", samples=1024
            ),
        },
        source="teacher",
    ),
    "oc": Preset(
        "students align the structure of equal layers",
        "Guo et al., Alignahead (its baseline), arXiv 2205.02468",
        {"kd": dict(update="epoch_alternate"), "kd_structure": {**_ALIGN, "layer_map": "one_to_one"}},
    ),
    "alignahead": Preset(
        "students align the structure of the next layer, as in the paper",
        "Guo et al., Alignahead, arXiv 2205.02468",
        {"kd": dict(update="epoch_alternate"), "kd_structure": _align_ahead(1)},
    ),
    "alignahead_code": Preset(
        "students align the structure of the previous layer, as in the released code",
        "Guo et al., Alignahead, arXiv 2205.02468",
        {
            "kd": dict(update="epoch_alternate", init="same", peer_mode="train"),
            "kd_structure": _align_ahead(-1),
        },
    ),
    "alignahead_pp": Preset(
        "structure and features of the next layer, a head on every layer (reconstruction; weights by our search)",
        "Guo et al., Alignahead++, arXiv 2210.13743",
        {
            "kd": dict(update="epoch_alternate"),
            "kd_structure": _align_ahead(1),
            "kd_feature": dict(source="peers", weight=0.01, tap="conv", layer_map="shift", shift=1, loss="mse"),
            "kd_auxiliary": dict(weight=1, head="linear", layers="all", layer_reduction="mean"),
        },
    ),
    "mutual": Preset(
        "students exchange their predictions on unlabelled nodes, faded in (our search; as published: dml)",
        "Zhang et al., Deep Mutual Learning, arXiv 1706.00384",
        {
            "kd": dict(update="step_alternate"),
            "kd_response": dict(source="peers", weight=1, temperature=1, nodes="unlabeled", schedule="rampup_80"),
        },
        multilabel=_EVERY_NODE,
    ),
    "dml": Preset(
        "students exchange their predictions on all nodes from the first epoch on, as published",
        "Zhang et al., Deep Mutual Learning, arXiv 1706.00384",
        {
            "kd": dict(update="step_alternate"),
            "kd_response": dict(source="peers", weight=1, temperature=1, nodes="all"),
        },
    ),
    "cohort_st": Preset(
        "our own; no publication: students learn the sharpened mean of all their predictions (cohort self-training)",
        "gkd_plugin",
        {"kd": dict(update="joint"), "kd_response": {**_SHARPENED, "source": "cohort"}},
        multilabel=_EVERY_NODE,
    ),
    "self_st": Preset(
        "our own; no publication: a network learns its own sharpened predictions; the control of cohort_st",
        "gkd_plugin",
        {"kd": dict(update="joint"), "kd_response": {**_SHARPENED, "source": "self"}},
        multilabel=_EVERY_NODE,
    ),
    "byot": Preset(
        "a network's final head and last layer teach its earlier layers",
        "Zhang et al., Be Your Own Teacher, arXiv 1905.08094",
        {
            "kd": dict(label_weight=0.9),
            "kd_auxiliary": dict(weight=0.9, layers="all_but_last", soft_weight=0.1, soft_source="self", temperature=3),
            "kd_feature": dict(source="self", weight=1e-6, layer_map="last", loss="mse", reduction="sum"),
        },
        multilabel={"kd_auxiliary": dict(temperature=1)},
    ),
}
