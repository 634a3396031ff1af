"""The host's global ``cfg``, held right around every call into its code.

GraphGym's modules read one global configuration, also in ``forward``. A model is therefore built and run with the
values it was made from, whatever the global object holds meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch_geometric.graphgym.config import cfg
from torch_geometric.graphgym.loss import compute_loss
from yacs.config import CfgNode

__all__ = ["alone", "cfg", "scoped", "snapshot", "task_loss"]

alone = threading.RLock()
"""Held by a call from Python that trains: there is one global ``cfg``, so a call in another thread waits."""


def snapshot() -> CfgNode:
    """A copy of the global configuration that later changes do not reach."""
    return cfg.clone()


@contextmanager
def scoped(own: CfgNode) -> Iterator[None]:
    """Puts the values of ``own`` into the global configuration and takes them out again.

    Top-level entries are exchanged as they are, past yacs's freezing, which costs some microseconds.
    """
    if own is cfg:
        yield
        return
    saved = dict(cfg)
    dict.update(cfg, own)
    try:
        yield
    finally:
        dict.clear(cfg)
        dict.update(cfg, saved)


def task_loss(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The host's own loss, users' registered losses included, and the score its metrics read.

    Without any item (a sampled batch may hold no training node) the loss is 0, where a mean would be NaN.
    """
    loss, score = compute_loss(pred, true)
    return loss if len(true) else pred.new_zeros(()), score
