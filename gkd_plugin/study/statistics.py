"""Scores over seeds: spread, paired tests, and the correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gkd_plugin.commands.report import EQUAL, Paired

_WILCOXON_SEEDS = 6  # of five, even five wins give p = 0.0625
_NAN = float("nan")


@dataclass(frozen=True)
class Spread:
    """Scores of one point over seeds.

    Args:
        mean (float): Their mean.
        sd (float): Their standard deviation (of a sample); NaN for one seed.
        low, high (float): The 95 % t-interval of the mean, by the rules of :class:`~gkd_plugin.commands.report.Paired`:
            NaN below three seeds, and where all scores are equal.
        count (int): Number of seeds.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> Spread:
        """The spread of scores."""
        mean = Paired.of(scores, [0.0] * len(scores))  # the interval of a mean is that of a difference to 0
        sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else _NAN
        return cls(mean.mean, sd, mean.low, mean.high, mean.count)


@dataclass(frozen=True)
class PairedTest:
    """A point beside another on equal seeds.

    Args:
        difference (Paired): The paired difference with its interval.
        p (float): Of the two-sided paired t-test; NaN where there is no interval.
        wilcoxon (float): Of the two-sided Wilcoxon signed-rank test; NaN below six seeds.
        wins, ties, losses (int): Seeds on which it is better, equal, worse.
    """

    difference: Paired
    p: float
    wilcoxon: float
    wins: int
    ties: int
    losses: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float], better: bool = True) -> PairedTest:
        """The test of scores in the order of their seeds.

        Args:
            ours, theirs (sequence of float): The scores.
            better (bool): Whether more is better.
        """
        difference = Paired.of(ours, theirs)
        gaps = np.subtract(ours, theirs) * (1 if better else -1)
        wins, losses = int((gaps > EQUAL).sum()), int((gaps < -EQUAL).sum())
        ties = int((abs(gaps) <= EQUAL).sum())
        p = wilcoxon = _NAN
        if not math.isnan(difference.low):
            from scipy import stats  # only here: it is heavy

            p = float(stats.ttest_rel(ours, theirs).pvalue)
            if len(gaps) >= _WILCOXON_SEEDS:
                # equal differences share a rank, although they differ in their last digits
                wilcoxon = float(stats.wilcoxon(np.round(gaps, 9)).pvalue)
        return cls(difference, p, wilcoxon, wins, ties, losses)


def correct_holm(p: Sequence[float], lost: int = 0) -> list[float]:
    r"""Holm's correction: the chance of one or more false findings among all comparisons stays below the level.

    With the p-values in ascending order, :math:`\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})`.

    Args:
        p (sequence of float): The p-values of all comparisons; NaN (no test) stays NaN and does not count.
        lost (int): Comparisons that were meant and have no p-value, because runs failed. They count as if they had been
            the largest: comparisons that failed still count in the correction.

    Returns:
        list of float: The corrected p-values, in the same order.
    """
    tested = sorted((value, position) for position, value in enumerate(p) if not math.isnan(value))
    corrected, largest, count = [_NAN] * len(p), 0.0, len(tested) + lost
    for rank, (value, position) in enumerate(tested):
        largest = max(largest, min(1.0, (count - rank) * value))
        corrected[position] = largest
    return corrected
