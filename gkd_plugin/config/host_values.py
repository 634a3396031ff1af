"""What each key of the host may hold, alone: its type and its range. What keys need of one another is in ``host_checks``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gkd_plugin.errors import Problem, quote
from gkd_plugin.schema import LARGEST_WHOLE, LONGEST_NAME, BadValue, Choice, Flag, Kind, Number

MAX_SEED = 2**32 - 2  # NumPy takes one more, but the host counts one up before it seeds a run
MOST_LAYERS, WIDEST, MOST_WORKERS = 10_000, 2**20, 1024


class Text(Kind):
    """Text as it stands; a number is the text that it looks like."""

    def describe(self) -> str:
        return "text"

    def parse(self, raw: Any) -> str:
        if isinstance(raw, bool):
            raise BadValue("Allowed: text. YAML reads on, off, yes, no, true, false as truth values; quote the word.")
        if not isinstance(raw, (int, float, str)):
            raise BadValue("Allowed: text.")
        return str(raw)


class Folder(Text):
    """The path of a folder."""

    def describe(self) -> str:
        return f"a folder, each part of at most {LONGEST_NAME} bytes"

    def parse(self, raw: Any) -> str:
        path = super().parse(raw)
        longest = max(len(part.encode(errors="replace")) for part in path.split("/"))
        if not path.strip() or "\0" in path or longest > LONGEST_NAME:
            raise BadValue(f"Allowed: {self.describe()}.")
        return path


class Like(Kind):
    """A value of the default's own type; lists and tuples stand for each other."""

    def __init__(self, default: Any) -> None:
        self.type = type(default)

    def describe(self) -> str:
        return "a list" if self.type in (list, tuple) else self.type.__name__

    def parse(self, raw: Any) -> Any:
        if self.type in (list, tuple) and isinstance(raw, (list, tuple)):
            return self.type(raw)
        if not isinstance(raw, self.type):
            raise BadValue(f"Allowed: {self.describe()}.")
        return raw


class Several(Like):
    """A list whose parts are of one kind."""

    def __init__(self, part: Kind) -> None:
        super().__init__([])
        self.part = part

    def describe(self) -> str:
        return f"a list; each part {self.part.describe()}"

    def parse(self, raw: Any) -> Any:
        try:
            return [self.part.parse(each) for each in super().parse(raw)]
        except BadValue:
            raise BadValue(f"Allowed: {self.describe()}.") from None


def _count(low: int = 1, high: int = LARGEST_WHOLE) -> Number:
    return Number(low, high=None if high == LARGEST_WHOLE else high, integer=True)


HOST_VALUES: dict[str, Kind] = {
    "accelerator": Text(),
    "out_dir": Folder(),
    "custom_metrics": Several(Text()),
    "seed": _count(0, MAX_SEED),
    "round": _count(0, 15),
    "tensorboard_each_run": Flag(),
    "tensorboard_agg": Flag(),
    "num_workers": _count(0, MOST_WORKERS),
    "num_threads": _count(1, MOST_WORKERS),
    "metric_best": Text(),
    "metric_agg": Choice(("argmax", "argmin")),
    "gpu_mem": Flag(),
    "share.dim_in": _count(0),
    "share.dim_out": _count(0),
    "share.num_splits": _count(0, 3),
    "share.relations": _count(0),
    "share.node_types": Several(Several(_count(0))),
    "dataset.name": Text(),
    "dataset.format": Text(),
    "dataset.dir": Folder(),
    "dataset.task": Text(),
    "dataset.task_type": Text(),
    "dataset.node_encoder": Flag(),
    "dataset.node_encoder_name": Text(),
    "dataset.node_encoder_bn": Flag(),
    "dataset.edge_encoder": Flag(),
    "dataset.edge_encoder_name": Text(),
    "dataset.edge_encoder_bn": Flag(),
    "dataset.edge_dim": _count(1, WIDEST),
    "dataset.transductive": Flag(),
    "train.mode": Text(),
    "train.batch_size": _count(),
    "train.sampler": Text(),
    "train.eval_period": _count(),
    "train.train_parts": _count(),
    "train.skip_train_eval": Flag(),
    "train.ckpt_period": _count(),
    "train.enable_ckpt": Flag(),
    "train.iter_per_epoch": _count(),
    "train.walk_length": _count(),
    "train.neighbor_sizes": Several(_count(-1)),
    "val.sampler": Text(),
    "model.type": Text(),
    "model.loss_fun": Text(),
    "model.size_average": Text(),
    "model.thresh": Number(0, high=1),
    "model.edge_decoding": Text(),
    "model.graph_pooling": Text(),
    "gnn.head": Text(),
    "gnn.layers_pre_mp": _count(0, MOST_LAYERS),
    "gnn.layers_mp": _count(0, MOST_LAYERS),
    "gnn.layers_post_mp": _count(0, MOST_LAYERS),
    "gnn.dim_inner": _count(1, WIDEST),
    "gnn.layer_type": Text(),
    "gnn.stage_type": Text(),
    "gnn.skip_every": _count(),
    "gnn.batchnorm": Flag(),
    "gnn.act": Text(),
    "gnn.dropout": Number(0, below=1),
    "gnn.agg": Text(),
    "gnn.normalize_adj": Flag(),
    "gnn.msg_direction": Text(),
    "gnn.self_msg": Text(),
    "gnn.att_heads": _count(),
    "gnn.l2norm": Flag(),
    "gnn.keep_edge": Number(0, high=1),
    "optim.optimizer": Text(),
    "optim.base_lr": Number(0),
    "optim.weight_decay": Number(0),
    "optim.momentum": Number(0),
    "optim.steps": Several(_count(0)),
    "optim.lr_decay": Number(0),
    "optim.max_epoch": _count(),
    "bn.eps": Number(0),
    "bn.mom": Number(0, high=1),
    "mem.inplace": Flag(),
}
"""The keys that a run reads. Null is refused for them; other keys, such as a user's own, hold what their default is like."""


def kind_of(default: Any) -> Kind:
    """What a key without a row may hold, told by its default."""
    if isinstance(default, bool):
        return Flag()
    if isinstance(default, (int, float)):
        return Number(None, integer=isinstance(default, int))
    return Text() if isinstance(default, str) else Like(default)


def coerce(default: Any, raw: Any, name: str = "") -> Any:
    """``raw`` as the host's key is meant: ``10`` for a float, ``1e-3`` and ``true`` as text, tuples for lists.

    Args:
        default (Any): The key's default.
        raw (Any): What was written.
        name (str): The key's full name.

    Raises:
        BadValue: If it cannot be meant so; the text gives the default as an example.
    """
    kind = HOST_VALUES.get(name)
    if kind is None and (default is None or raw is None):
        return raw
    try:
        return (kind or kind_of(default)).parse(raw)
    except BadValue as error:
        example = list(default) if isinstance(default, tuple) else default
        raise BadValue(f"{error} The default is {example!r}.") from None


def find_bad_values(own: Mapping[str, Any]) -> Iterator[Problem]:
    """The keys of a whole configuration, such as one that a run left behind, whose value has no place there."""
    for name, kind in HOST_VALUES.items():
        group, _, leaf = name.rpartition(".")
        node = own.get(group) if group else own
        if not isinstance(node, Mapping):
            yield Problem(group, f"{quote(node)} is not a group", f"Write {group}: {{key: value, ...}}.")
        elif leaf in node:
            try:
                kind.parse(node[leaf])
            except BadValue as error:
                yield Problem(name, f"{quote(node[leaf])} is not allowed", str(error))
