"""Small networks: a short run has every column, and problems are drawn by their number alone."""

import numpy as np

from benchmarks import small


def test_a_problem_is_drawn_by_its_number():
    drawn = [small.problem(3, ["default", "no-op"]) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert [each["method"] for each in drawn[0]] == ["default", "no-op"]
    assert all(np.isfinite(each["cost"]) and each["cost"] <= each["retrained"] for each in drawn[0])


def test_requests_are_of_rows_that_are_there():
    rng = np.random.default_rng(0)
    for _ in range(20):
        _, X, y = small.rows(rng)
        assert len(np.unique(X, axis=0)) == len(X) == len(y)
        _, erased = small.request(X, y, rng)
        assert 0 < len(erased) < len(X)
        assert len(np.unique(erased)) == len(erased)
