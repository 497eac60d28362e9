"""Two processes fit and forget what one does, and refuse what they cannot do together."""

import copy
import multiprocessing
import pickle
import warnings

import numpy as np
import pytest

from sk_unlearn.distributed import data_parallel
from tests.distributed._processes import (
    CASES,
    GONE,
    N,
    bases,
    by_unlearner,
    data,
    every_unlearner,
    fitted,
    forgotten,
    part,
    run,
    state,
    verbs,
)

ALL = slice(None)
# One process arrives elsewhere, by as much, when its parameters are rounded in another way before the request.
SENSITIVE = {"MinMaxNaturalGradient": 1e-2}


@pytest.fixture(scope="module")
def alone():
    return bases(ALL)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, alone):  # alone: what is imported on the way is then there in the processes, too
    """What came of all that two processes did, by process and name."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("processes are started by fork here, which spares them the imports")
    folder = str(tmp_path_factory.mktemp("processes"))
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=run, args=(rank, folder)) for rank in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        for process in processes:
            process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 3]  # the second dies, as it is told to
    told = []
    for rank in range(2):
        with open(f"{folder}/{rank}.pkl", "rb") as file:
            told.append(pickle.load(file))
    return told


def _of(outcomes, name):
    """What both processes made of something that must have gone well."""
    found = [each[name] for each in outcomes]
    assert [kind for kind, _ in found] == ["ok", "ok"], found
    return [value for _, value in found]


def _errors(outcomes, name):
    return [each[name] for each in outcomes]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_fit_and_forget_as_one_does(outcomes, name, tmp_path):
    one = fitted(name, ALL, str(tmp_path))
    before = state(one)
    forgotten(name, one)
    tol, report = CASES[name][2], one.unlearning_report_
    found = _of(outcomes, name)
    for fit, after, counts, _, _ in found:
        for there, here in ((fit, before), (after, state(one))):
            assert there.keys() == here.keys()
            assert all(np.abs(there[key] - here[key]).max() <= tol * max(1, np.abs(here[key]).max()) for key in here)
        assert counts == (report.n_erased, report.n_trained_erased, report.n_retained, str(report.status))
    assert all((found[0][1][key] == found[1][1][key]).all() for key in before)  # bit by bit, in both
    assert found[0][3] == found[1][3]  # and the receipts, down to the hash


def test_each_process_holds_its_own_rows_and_nothing_of_erased_ones(outcomes):
    for rank, each in enumerate(outcomes):
        before, after = each["held"]
        # Rows 5 and 30 are the same, one in each process.
        own = set(range(N)[part(rank)]) | {5, 30}
        assert set(before) == own
        assert set(after) == own - set(GONE) - {5} if rank else own - set(GONE) | {30}


def test_classes_are_those_of_all_processes(outcomes):
    assert all(classes == [0, 1, 2] for *_, classes in _of(outcomes, "float64"))


@pytest.mark.parametrize("name", every_unlearner())
def test_every_unlearner_does_in_two_processes_what_it_does_in_one(outcomes, alone, name):
    one = by_unlearner(alone, name)
    two, same = _of(outcomes, f"unlearner {name}")
    np.testing.assert_array_equal(two, same)
    np.testing.assert_allclose(two, one, rtol=0, atol=SENSITIVE.get(name, 1e-10))


def test_sequences_of_verbs_lead_to_the_same(outcomes, alone):
    one = verbs(copy.deepcopy(alone["net"]), ALL)
    # Rows that partial_fit brings stand, in one process, in another order.
    for two in _of(outcomes, "verbs"):
        assert two.keys() == one.keys()
        for name, (parameters, n_rows, labels) in one.items():
            assert two[name][1] == n_rows, name
            assert sorted(two[name][2]) == sorted(labels), name
            np.testing.assert_allclose(two[name][0], parameters, rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown row", "1 not among the stored rows"),
        ("unknown id", "1 of 1 ids are not stored"),
        ("everything", "covers all 44 rows"),
        ("another request in each", "must be the same in all processes"),
        ("fit on other columns", "rows of one shape in all processes"),
        ("other settings", "settings of the estimator must be the same"),
        ("memory", "memory=None"),
    ],
)
def test_all_processes_raise_the_same(outcomes, name, message):
    first, second = _errors(outcomes, name)
    assert first == second
    assert first[0] == "ValueError"
    assert message in first[1]


@pytest.mark.parametrize("name", ["not a number in one", "fit fails in one"])
def test_an_input_that_is_wrong_in_one_process_is_refused_by_all(outcomes, name):
    first, second = _errors(outcomes, name)
    assert (first[0], second[0]) == ("ValueError", "ValueError")
    assert first[1] == f"In process 1: {second[1]}"


def test_refused_requests_change_nothing(outcomes):
    assert all(each["nothing changed"] for each in outcomes)


def test_what_is_not_made_for_processes_refuses(outcomes):
    names = [name for name in outcomes[0] if name.startswith("refused: ")]
    assert len(names) == 16
    for name in names:
        for kind, message in _errors(outcomes, name):
            assert kind in ("RuntimeError", "TypeError"), (name, kind, message)
            assert "data_parallel()" in message or "cannot be pickled" in message, (name, message)


def test_a_process_that_fails_alone_leaves_the_others_with_an_error_and_the_old_state(outcomes):
    first, second = _errors(outcomes, "one fails")
    assert first[0] == "ProcessesError"
    assert "nothing was changed" in first[1]
    assert second[0] == "KeyboardInterrupt"
    assert all(each["out of step"][0] == "ProcessesError" for each in outcomes)
    assert all(each["before"] == each["after one failed"] for each in outcomes)


def test_a_process_that_dies_leaves_the_others_with_an_error_and_the_old_state(outcomes):
    assert outcomes[0]["one dies"][0] == "ProcessesError"
    assert outcomes[0]["after one died"] == outcomes[0]["before"]


def test_outside_the_context_spread_rows_are_refused(outcomes):
    for kind, message in _errors(outcomes, "outside"):
        assert kind == "RuntimeError"
        assert "outside data_parallel()" in message


def test_each_process_predicts_what_one_does(outcomes, alone):
    for proba in _of(outcomes, "predictions"):
        np.testing.assert_allclose(proba, alone["net"].predict_proba(data()[0][:9]), atol=1e-10)


def test_arguments_and_a_context_without_processes_are_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for settings, error in (({"backend": "mpi"}, ValueError), ({"timeout": 0}, ValueError), ({}, RuntimeError)):
        with pytest.raises(error), data_parallel(**settings):
            pass
