"""The statistics of a change between two samples, from sums that a database makes: no list of values is needed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any

from upstream.streaming._optional import optional

# Pearson's test is close from here on (Cochran's rule); below it, Fisher's exact test is used.
LEAST_EXPECTED = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers, by their count, their sum and the sum of their squares.

    >>> Sample(4, 10, 30).mean, Sample(4, 10, 30).variance  # of 1, 2, 3 and 4
    (2.5, 1.6666666666666667)
    """

    size: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        return self.total / self.size if self.size else 0.0

    @property
    def variance(self) -> float:
        """The variance of a population that this is a sample of; 0 for fewer than two numbers."""
        if self.size < 2:
            return 0.0
        spread = self.squares - self.total * self.mean
        # What rounding can add to the sums of equal numbers is no variance.
        rounding = 2 * self.size * sys.float_info.epsilon * self.squares
        return spread / (self.size - 1) if spread > rounding else 0.0


def rate_p_value(baseline: Sample, current: Sample) -> float:
    """Return how likely two samples of ones and zeros differ so much by chance: the p-value, two-sided.

    Pearson's chi-squared test without a correction, or Fisher's exact test where an expected count is below 5.

    >>> round(rate_p_value(Sample(1000, 170, 170), Sample(200, 54, 54)), 5)
    0.00092
    """
    hits, size = baseline.total + current.total, baseline.size + current.size
    if hits in (0, size):
        return 1.0
    table = [[sample.total, sample.size - sample.total] for sample in (baseline, current)]
    least_expected = min(hits, size - hits) * min(baseline.size, current.size) / size
    stats = _stats()
    if least_expected < LEAST_EXPECTED:
        return float(stats.fisher_exact(table).pvalue)
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def mean_p_value(baseline: Sample, current: Sample) -> float:
    """Return how likely the means of two samples differ so much by chance: Welch's t-test, two-sided.

    The variances may differ. Samples without any variance differ for certain, or not at all.

    >>> round(mean_p_value(Sample(4, 10, 30), Sample(4, 18, 86)), 5)  # 1, 2, 3, 4 and 3, 4, 5, 6
    0.07099
    """
    if not baseline.variance and not current.variance:
        return float(isclose(baseline.mean, current.mean))
    sides = [number for one in (baseline, current) for number in (one.mean, sqrt(one.variance), one.size)]
    return float(_stats().ttest_ind_from_stats(*sides, equal_var=False).pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: below 0.05, at most 5 % are expected to be chance.

    Benjamini and Hochberg (1995).

    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    return [float(p_value) for p_value in _stats().false_discovery_control(p_values)] if p_values else []


def _stats() -> Any:
    return optional("scipy.stats", "analytics")
