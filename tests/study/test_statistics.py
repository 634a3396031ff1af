"""Statistics against formulas, tables in books and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gkd_plugin.study.statistics import PairedTest, Spread, correct_holm

NAN = float("nan")
OURS = [0.81, 0.79, 0.84, 0.80, 0.83]
THEIRS = [0.78, 0.80, 0.80, 0.78, 0.82]


def test_spread_is_the_t_interval_of_a_mean() -> None:
    found = Spread.of(OURS)
    half = 2.776445105 * found.sd / math.sqrt(5)  # t(0.975, 4) from a table
    assert found.mean == pytest.approx(0.814) and found.count == 5
    assert found.sd == pytest.approx(math.sqrt(sum((x - 0.814) ** 2 for x in OURS) / 4))
    assert (found.low, found.high) == pytest.approx((0.814 - half, 0.814 + half))


@pytest.mark.parametrize(
    ("scores", "has_sd"),
    [([0.5], False), ([0.5, 0.7], True), ([0.5, 0.5, 0.5], True), ([], False), ([NAN, NAN, NAN], False)],
)
def test_no_interval_where_the_scores_cannot_show_one(scores: list[float], has_sd: bool) -> None:
    found = Spread.of(scores)
    assert math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(found.sd) is not has_sd
    assert found.count == len(scores)


def test_paired_test_is_the_two_sided_t_test_of_the_differences() -> None:
    found = PairedTest.of(OURS, THEIRS)
    gaps = np.array([0.03, -0.01, 0.04, 0.02, 0.01])
    t = gaps.mean() / (gaps.std(ddof=1) / math.sqrt(5))
    assert found.p == pytest.approx(2 * stats.t(4).sf(abs(t)))
    assert found.difference.mean == pytest.approx(0.018)
    assert (found.p < 0.05) is (found.difference.low > 0)  # the interval and the test agree
    assert (found.wins, found.ties, found.losses) == (4, 0, 1)
    assert math.isnan(found.wilcoxon)


def test_wilcoxon_stands_beside_it_from_six_seeds_on() -> None:
    steps = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    won = PairedTest.of(0.7 + steps, [0.7] * 6)
    assert won.wilcoxon == pytest.approx(2 / 2**6)  # of all signs, two are as extreme
    one_lost = PairedTest.of(0.7 + steps * [-1, 1, 1, 1, 1, 1], [0.7] * 6)
    assert one_lost.wilcoxon == pytest.approx(4 / 2**6)  # the smallest rank on the other side: W = 0 or 1, twice


@pytest.mark.parametrize(
    ("ours", "theirs", "counts"),
    [
        ([0.7, 0.8], [0.6, 0.9], (1, 0, 1)),
        ([0.7, 0.7, 0.7], [0.6, 0.6, 0.6], (3, 0, 0)),  # equal differences show no variance
        ([0.1 + 0.2, 0.5, 0.5], [0.3, 0.5, 0.5], (0, 3, 0)),  # equal but for their last digits
        ([], [], (0, 0, 0)),
        ([NAN, NAN, NAN], [0.1, 0.2, 0.3], (0, 0, 0)),
    ],
)
def test_no_test_without_an_interval(ours: list[float], theirs: list[float], counts: tuple[int, int, int]) -> None:
    found = PairedTest.of(ours, theirs)
    assert math.isnan(found.p) and math.isnan(found.wilcoxon) and math.isnan(found.difference.low)
    assert (found.wins, found.ties, found.losses) == counts


def test_of_an_error_less_is_a_win() -> None:
    found = PairedTest.of(OURS, THEIRS, better=False)
    assert (found.wins, found.ties, found.losses) == (1, 0, 4)
    assert found.difference.mean == pytest.approx(0.018)  # the sign stays that of the metric


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 0.005 * 4, 0.01 * 3, 0.03 * 2, and not below that
        ([0.01, NAN, 0.02], [0.02, NAN, 0.02]),  # what was not tested does not count
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([NAN], [NAN]),
        ([], []),
    ],
)
def test_holm(p: list[float], corrected: list[float]) -> None:
    assert correct_holm(p) == pytest.approx(corrected, nan_ok=True)


def test_what_was_lost_counts_as_the_largest() -> None:
    p = [0.01, NAN, 0.02]
    assert correct_holm(p, 2) == pytest.approx([0.04, NAN, 0.06], nan_ok=True)
    whole = correct_holm([*p, 1.0, 1.0])
    assert correct_holm(p, 2) == pytest.approx(whole[:3], nan_ok=True)


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        p = (random.random(8) ** 4).tolist()
        rejected = set()
        for step, position in enumerate(np.argsort(p)):  # the procedure as it is defined, at 5 %
            if p[position] > 0.05 / (8 - step):
                break
            rejected.add(int(position))
        assert {position for position, value in enumerate(correct_holm(p)) if value <= 0.05} == rejected
