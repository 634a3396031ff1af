"""The groups ``splits`` (how data sets of ``dataset.format: gkd`` are prepared) and ``metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gkd_plugin.schema import Choice, Flag, Key, Number

SPLITS, METRICS = "splits", "metrics"
PROTOCOLS = ("transductive", "inductive", "production")


def _not_drawn(values: Mapping[str, Any]) -> str | None:
    return None if values["kind"] in ("random", "per_class") else "splits.kind is neither random nor per_class"


def _all_seen(values: Mapping[str, Any]) -> str | None:
    return "splits.protocol is transductive" if values["protocol"] == PROTOCOLS[0] else None


SPLIT_KEYS: tuple[Key, ...] = (
    Key(
        "kind",
        None,
        Choice(("public", "random", "per_class")),
        "public: the data set's own split (taken where there is one, else random); random: shares of all items; "
        "per_class: numbers of each class, the rest is the test set",
    ),
    Key("train", None, Number(0, above=True), "training share (0.5), or items per class (20)", _not_drawn),
    Key("val", None, Number(0, above=True), "validation share (0.25), or items per class (30)", _not_drawn),
    Key("seed", "run", Number(0, integer=True, words=("run",)), "seed of the split; run: the run's, so repeats differ"),
    Key(
        "points",
        128,
        Number(2, integer=True),
        "points of each cloud that is drawn from a mesh (GeometricShapes, ModelNet)",
    ),
    Key(
        "noise", 0.0, Number(0), "standard deviation of the noise on the coordinates of such clouds, whose radius is 1"
    ),
    Key("largest_component", False, Flag(), "whether to keep the largest connected component only"),
    Key("row_normalize", False, Flag(), "whether each node's features are divided by their sum"),
    Key(
        "protocol",
        "transductive",
        Choice(PROTOCOLS),
        "transductive: all nodes are in the graph from the beginning; inductive: a share of the test nodes and their edges "
        "comes for the test only, and is what is tested; production: the same, and all test nodes are tested",
    ),
    Key(
        "inductive_share", 0.2, Number(0, above=True, below=1), "the share of the test nodes that comes late", _all_seen
    ),
)

METRIC_KEYS: tuple[Key, ...] = (
    Key("f1_logit_threshold", 0.0, Number(None), "logit above which f1_micro counts a label as predicted"),
)
