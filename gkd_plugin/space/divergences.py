"""How far apart two structures are: what each pair of nodes adds.

Summed over the pairs of a node the softmax ones give the usual divergence of its two distributions. Gradients flow into
the learner only; the source comes detached.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gkd_plugin.space.answers import Divergence


def kl_source_learner(learner: Tensor, source: Tensor) -> Tensor:
    """The source's q and the learner's p: q log(q / p)."""
    return source.exp() * (source - learner)


def kl_learner_source(learner: Tensor, source: Tensor) -> Tensor:
    """The learner's p and the source's q: p log(p / q)."""
    return learner.exp() * (learner - source)


def js(learner: Tensor, source: Tensor) -> Tensor:
    """Half of each one's divergence from the midpoint of both."""
    midpoint = torch.logaddexp(learner, source) - math.log(2)
    return 0.5 * (learner.exp() * (learner - midpoint) + source.exp() * (source - midpoint))


def mse(learner: Tensor, source: Tensor) -> Tensor:
    """The squared difference."""
    return (learner - source).square()


DIVERGENCES: dict[str, Divergence] = {
    "kl_source_learner": Divergence(kl_source_learner, "KL(source || learner)", "Alignahead (arXiv 2205.02468)"),
    "kl_learner_source": Divergence(kl_learner_source, "KL(learner || source)", "LSP (arXiv 2003.10477)"),
    "js": Divergence(js, "half of each KL to the midpoint (Jensen-Shannon)", "gkd_plugin"),
    "mse": Divergence(
        mse, "squared difference of probabilities, or of raw kernel values", "G-CRD (arXiv 2111.04964)", raw=True
    ),
}
