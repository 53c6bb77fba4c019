"""Tests from sums give what scipy's tests give for the numbers themselves, and what books print."""

import doctest
import statistics
import sys
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from upstream.services import drift_statistics
from upstream.services.drift_statistics import Sample, adjusted, mean_p_value, rate_p_value
from upstream.streaming import MissingDependencyError


def sample(numbers):
    return Sample(len(numbers), sum(numbers), sum(number * number for number in numbers))


def added_up(number, size):
    """Return the sample of so many equal numbers, added up one by one as a database does."""
    return Sample(size, *(list(accumulate([one] * size))[-1] for one in (number, number * number)))


def rate(hits, size):
    return Sample(size, hits, hits)


class TestSample:
    @given(st.lists(st.floats(-1e4, 1e4), min_size=2))
    def test_has_the_mean_and_variance_of_its_numbers(self, numbers):
        found = sample(numbers)
        assert found.mean == pytest.approx(statistics.fmean(numbers), abs=1e-6)
        assert found.variance == pytest.approx(statistics.variance(numbers), rel=1e-6, abs=1e-5)

    def test_without_numbers_has_a_mean_and_a_variance_of_0(self):
        assert (sample([]).mean, sample([]).variance, sample([3]).variance) == (0, 0, 0)

    def test_has_no_negative_variance_where_rounding_would_make_one(self):
        size, total = 3, 3 * 1.1
        assert total * total / size > 3.629999999999999
        assert Sample(size, total, 3.629999999999999).variance == 0

    @given(st.integers(1, 10**7).map(lambda cents: cents / 100), st.integers(2, 3000))
    @example(690.10, 1200)
    def test_of_equal_numbers_has_no_variance_whatever_rounding_does(self, number, size):
        assert added_up(number, size).variance == 0

    def test_of_numbers_that_hardly_differ_has_their_variance(self):
        assert sample([690.10, 690.11] * 600).variance == pytest.approx(0.000025, rel=0.01)


class TestRates:
    def test_of_the_physicians_health_study_differ_as_agresti_prints(self):
        # Heart attacks with placebo and with aspirin (Categorical Data Analysis): Pearson's chi-squared is 25.01.
        found = rate_p_value(rate(189, 11_034), rate(104, 11_037))
        assert found == pytest.approx(stats.chi2.sf(25.01, df=1), rel=0.01)

    def test_of_few_are_compared_by_fishers_exact_test(self):
        # Fisher's tea-taster (The Design of Experiments, 1935): 3 of 4 against 1 of 4; two-sided 34/70.
        assert rate_p_value(rate(3, 4), rate(1, 4)) == pytest.approx(34 / 70)

    @given(st.data())
    def test_have_the_p_value_of_scipys_tests(self, data):
        sizes = [data.draw(st.integers(1, 3000)) for _ in range(2)]
        hits = [data.draw(st.integers(0, size)) for size in sizes]
        table = [[hit, size - hit] for hit, size in zip(hits, sizes, strict=True)]
        assume(0 < sum(hits) < sum(sizes))
        large = stats.contingency.expected_freq(table).min() >= 5
        expected = stats.chi2_contingency(table, correction=False) if large else stats.fisher_exact(table)
        assert rate_p_value(*map(rate, hits, sizes)) == pytest.approx(expected.pvalue)

    @pytest.mark.parametrize("hits", [0, 1])
    def test_that_are_all_0_or_all_1_do_not_differ(self, hits):
        assert rate_p_value(rate(100 * hits, 100), rate(20 * hits, 20)) == 1


class TestMeans:
    numbers = st.lists(st.floats(-1e4, 1e4).map(lambda number: round(number, 2)), min_size=2, max_size=60)

    def test_of_equal_variances_have_the_p_value_of_students_test(self):
        # Of equal sizes and variances it is Student's test: t = 2.1909 with 6 degrees of freedom.
        found = mean_p_value(sample([1, 2, 3, 4]), sample([3, 4, 5, 6]))
        assert found == pytest.approx(2 * stats.t.sf(2 / (2 * (5 / 3) / 4) ** 0.5, 6))

    @given(numbers, numbers)
    def test_have_the_p_value_of_scipys_test_of_the_numbers(self, baseline, current):
        assume(statistics.variance(baseline) > 0.01 and statistics.variance(current) > 0.01)
        expected = stats.ttest_ind(baseline, current, equal_var=False).pvalue
        assert mean_p_value(sample(baseline), sample(current)) == pytest.approx(expected, rel=1e-4, abs=1e-9)

    def test_without_variance_differ_for_certain_or_not_at_all(self):
        assert mean_p_value(sample([14] * 50), sample([21] * 20)) == 0
        assert mean_p_value(sample([14] * 50), sample([14] * 20)) == 1

    def test_of_equal_payments_do_not_differ_by_rounding(self):
        baseline, current = added_up(690.10, 1200), added_up(690.10, 97)
        assert baseline.mean != current.mean
        assert mean_p_value(baseline, current) == 1


class TestCorrection:
    def test_gives_the_discoveries_of_benjamini_and_hochberg(self):
        # The example of their paper (1995), section 4: four of fifteen hypotheses are rejected at 0.05.
        p_values = [
            *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
            *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
        ]
        assert sum(p_value <= 0.05 for p_value in adjusted(p_values)) == 4

    def test_finds_at_most_a_few_drifts_where_there_are_none(self):
        random = np.random.default_rng(0)
        p_values = [
            rate_p_value(rate(random.binomial(600, 0.17), 600), rate(random.binomial(50, 0.17), 50))
            for _ in range(500)
        ]
        assert sum(p_value < 0.05 for p_value in p_values) > 10
        assert not [p_value for p_value in adjusted(p_values) if p_value < 0.05]

    def test_of_nothing_is_nothing(self):
        assert adjusted([]) == []


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingDependencyError, match=r"python -m pip install 'upstream\[analytics\]'"):
        adjusted([0.5])


def test_the_examples_are_true():
    failed, attempted = doctest.testmod(drift_statistics)
    assert (failed, attempted) == (0, 4)
