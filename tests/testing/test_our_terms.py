"""Our own terms under the suite that third parties run; the values per term are those that compute something else."""

from __future__ import annotations

import math

from torch import Tensor

from gkd_plugin.space.kernels import KERNELS
from gkd_plugin.space.observation import Observation, Task
from gkd_plugin.testing import TermSuite
from tests.space.knowledge import structure_oracle


# ------------------------------------------------------------------------------------------------------- response
class TestResponse(TermSuite):
    term = "response"
    variants = {
        "kl": {},
        "softened": {"temperature": 4, "nodes": "all"},
        "unlabeled": {"nodes": "unlabeled"},
        "mse": {"loss": "mse"},
        "peers": {"source": "peers"},
        "confident": {"confidence": 0.6, "nodes": "all"},
        "by_certainty": {"node_weight": "confidence"},
        "by_entropy": {"node_weight": "entropy", "confidence": 0.5, "temperature": 2, "nodes": "all"},
    }

    def oracle(self, learner: Observation, source: Observation, weights: Tensor | None) -> float:
        group = self.comparison.term.group
        mask = learner.graph.train_mask.tolist()
        wanted = {"train": lambda v: mask[v], "unlabeled": lambda v: not mask[v], "all": lambda v: True}
        nodes = [v for v in range(len(mask)) if wanted[group["nodes"]](v)]
        tau, total, mass, counted = group.get("temperature"), 0.0, 0.0, 0
        for v in nodes:
            z, t = learner.logits[v].tolist(), source.logits[v].tolist()
            if group["loss"] == "mse":
                total, counted = total + sum((a - b) ** 2 for a, b in zip(z, t, strict=True)) / len(z), counted + 1
                continue
            said = [math.exp(b) / sum(math.exp(c) for c in t) for b in t]
            if max(said) < group["confidence"]:
                continue
            entropy = -sum(b * math.log(b) for b in said)
            weight = {"none": 1.0, "confidence": max(said), "entropy": 1 - entropy / math.log(len(t))}
            p, q = ([math.exp(a / tau) for a in row] for row in (z, t))
            gap = sum(b / sum(q) * math.log((b / sum(q)) / (a / sum(p))) for a, b in zip(p, q, strict=True))
            total += tau**2 * weight[group["node_weight"]] * gap
            mass, counted = mass + weight[group["node_weight"]], counted + 1
        return total / (mass or max(counted, 1))


class TestCrossEntropies(TermSuite):
    term = "response"
    zero_at_source = False  # a distribution has an entropy of its own
    variants = {
        "bce_soft": {"loss": "bce_soft", "temperature": 2},
        "bce_hard": {"loss": "bce_hard"},
        "bce_certain": {"loss": "bce_hard", "confidence": 0.6, "node_weight": "entropy"},
        "sharpened": {"sharpen": 0.5, "temperature": 2},
        "flattened": {"loss": "bce_soft", "sharpen": 3},
        "hard": {"target": "hard", "temperature": 2, "nodes": "all"},
        "hard_certain": {"target": "hard", "confidence": 0.5, "node_weight": "confidence"},
    }


class TestOneLogit(TermSuite):
    term = "response"
    task = Task("node", "binary")
    zero_at_source = False
    variants = {
        "soft": {},
        "sharpened": {"sharpen": 0.5},
        "hard": {"target": "hard", "temperature": 2},
        "certain": {"confidence": 0.6, "node_weight": "confidence"},
        "by_entropy": {"node_weight": "entropy"},
    }


class TestSeveralLabels(TermSuite):
    term = "response"
    task = Task("graph", "multilabel")
    zero_at_source = False
    variants = {
        "soft": {},
        "sharpened": {"sharpen": 0.5},
        "hard": {"target": "hard", "temperature": 2},
        "certain": {"confidence": 0.6, "node_weight": "confidence"},
        "by_entropy": {"node_weight": "entropy"},
    }


class TestRegression(TermSuite):
    term = "response"
    task = Task("node", "regression")


class TestLinks(TermSuite):
    term = "response"
    task = Task("edge", "binary")
    values = {"loss": "mse"}


# -------------------------------------------------------------------------------------------------------- feature
class TestFeature(TermSuite):
    term = "feature"
    variants = {
        "mse": {},
        "smooth_l1": {"loss": "smooth_l1"},
        "cosine": {"loss": "cosine"},
        "attention": {"loss": "attention"},
        "sum": {"reduction": "sum", "tap": "stage"},
        "l2": {"normalize": "l2"},
        "batchnorm": {"normalize": "batchnorm"},
        "pooled": {"pool": "mean", "nodes": "train"},
        "unlabeled": {"nodes": "unlabeled"},
        "one_to_one": {"layer_map": "one_to_one", "layer_reduction": "mean"},
        "shift": {"layer_map": "shift", "shift": -1, "source": "peers"},
        "uniform": {"layer_map": "uniform"},
        "pairs": {"layer_map": "pairs", "pairs": "1~3+-1~2"},
    }


class TestDeeperLayers(TermSuite):
    term = "feature"
    values = {"source": "self", "tap": "layer"}
    variants = {
        "last": {},
        "shift": {"layer_map": "shift", "shift": 2},
        "uniform": {"layer_map": "uniform"},
        "pairs": {"layer_map": "pairs", "pairs": "1~2+2~3"},
        "attention": {"layer_map": "attention"},
    }


class TestProjectedFeature(TermSuite):
    term = "feature"
    zero_at_source = False  # projections of the two sides differ
    widths, source_widths = (5, 3), (6, 4, 4)
    values = {"layer_map": "proportional"}
    variants = {
        "auto": {},
        "gnn": {"projector": "gnn", "nodes": "train"},
        "bn_relu": {"projector": "linear_bn_relu", "normalize": "l2"},
        "both": {"projector": "linear", "projector_side": "both", "dim": 3, "normalize": "l2"},
        "both_gnn": {"projector": "gnn", "projector_side": "both", "dim": 3, "normalize": "batchnorm"},
        "attention_map": {"projector": "linear", "projector_side": "both", "dim": 3, "layer_map": "attention"},
    }


class TestAttentionMap(TermSuite):
    term = "feature"
    values = {"layer_map": "attention", "tap": "layer"}
    variants = {"rows": {}, "pooled": {"pool": "mean", "normalize": "l2"}}


class TestSharedAttentionMap(TestAttentionMap):
    groups = {
        "kd_attention": {"dim": 3, "softmax_over": "all", "projection": "shared", "detach": True, "subspace": False}
    }


class TestFrozenAttentionMap(TestAttentionMap):
    groups = {"kd_attention": {"softmax_over": "source", "frozen": True}}


# ------------------------------------------------------------------------------------------------------ structure
class TestStructure(TermSuite):
    term = "structure"
    source_widths = (4, 2, 5)
    variants = {
        **{kernel: {"kernel": kernel} for kernel in KERNELS},
        **{divergence: {"divergence": divergence, "kernel_scale": 3} for divergence in structure_oracle.DIVERGENCES},
        "union": {"domain": "union", "self_loops": True, "kernel_scale": "median"},
        "train_edges": {"domain": "train_edges", "kernel": "cosine", "reduction": "pair_mean"},
        "out_edges": {"softmax_over": "out_edges", "self_loops": True, "normalize": "batchnorm"},
        "all_pairs": {"domain": "all_pairs", "kernel": "rbf", "kernel_scale": 2, "normalize": "l2"},
        "raw": {"distribution": "none", "divergence": "mse", "kernel": "poly", "reduction": "sum"},
        "gsp": {
            "domain": "all_pairs",
            "distribution": "none",
            "divergence": "mse",
            "kernel": "cosine",
            "self_loops": True,
        },
        "gkd": {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "non_edge_weight": 0.1},
        "shift": {"layer_map": "shift", "tap": "layer", "source": "peers", "kernel_scale": 5},
    }

    def oracle(self, learner: Observation, source: Observation, weights: Tensor | None) -> float:
        group, total = self.comparison.term.group, 0.0
        for row, column in weights.nonzero().tolist():
            rows, targets = learner.hidden[group["tap"]][row].tolist(), source.hidden[group["tap"]][column].tolist()
            total += weights[row, column].item() * structure_oracle.oracle(
                group, (rows, learner.graph), (targets, source.graph)
            )
        return total


class TestDrawnStructure(TermSuite):
    term = "structure"
    draws = True
    values = {"domain": "all_pairs", "samples": 3, "kernel": "rbf", "kernel_scale": 2}


# ------------------------------------------------------------------------------------------------------- contrast
class TestContrast(TermSuite):
    term = "contrast"
    zero_at_source = False  # every node also meets the others
    values = {"dim": 3, "temperature": 0.5}
    source_widths = (4, 5)
    variants = {
        "bn_relu": {},
        "linear": {"projector": "linear", "layer_map": "proportional"},
        "attention_map": {"projector": "linear", "layer_map": "attention"},
    }


class TestDrawnContrast(TermSuite):
    term = "contrast"
    zero_at_source = False
    draws = True
    values = {"samples": 3, "projector": "linear"}


# ------------------------------------------------------------------------------------------------------ auxiliary
class TestHeads(TermSuite):
    term = "auxiliary"
    zero_at_source = False  # it is taught by labels, too
    variants = {
        "linear": {},
        "mlp": {"head": "mlp", "layers": "all_but_last", "growth": "increasing"},
        "gnn": {"head": "gnn"},
        "soft": {"weight": 0, "soft_weight": 1, "temperature": 3},
        "both": {"weight": 0.9, "soft_weight": 0.1, "soft_source": "peers"},
    }


class TestHeadsOfGraphs(TermSuite):
    term = "auxiliary"
    zero_at_source = False
    variants = {"gnn": {"head": "gnn"}, "soft": {"soft_weight": 1, "layers": "all_but_last"}}
    task = Task("graph", "binary")


class TestHeadsOfLinks(TermSuite):
    term = "auxiliary"
    zero_at_source = False
    variants = {"gnn": {"head": "gnn"}, "soft": {"soft_weight": 1, "layers": "all_but_last"}}
    task = Task("edge", "binary")
