"""The loop that the first-order algorithms share."""

import numpy as np
import torch

from sk_unlearn.unlearners import Status
from sk_unlearn.unlearners._minibatch import MinibatchLoop, batches, training_batch_size
from tests._problems import untrained_problem

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
y = rng.integers(0, 3, size=50)
y[:25] = 0


def problem(**settings):
    return untrained_problem(X, y, **settings)


def test_batches_cover_every_row_once():
    parts = list(batches(problem().retained, 8, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [8] * 5
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(10, 50))


def test_pairs_start_the_erased_rows_over():
    pairs = list(MinibatchLoop(problem(), 0.1).paired_batches())
    assert len(pairs) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([pairs[0][1], pairs[1][1]])), np.arange(10))
    np.testing.assert_array_equal(np.sort(np.concatenate([pairs[2][1], pairs[3][1]])), np.arange(10))


def test_steps_are_adams_and_a_harmful_one_is_not_taken():
    case = problem()
    loop, gradient = MinibatchLoop(case, 0.1), case.retained.gradient(case.parameters)
    loop.step(gradient)
    torch.testing.assert_close(loop.w, case.parameters - 0.1 * gradient.sign(), rtol=0, atol=1e-5)
    # A net that has learnt nothing may not get worse.
    loop = MinibatchLoop(case, 0.01)
    assert not loop.try_step(-gradient)
    assert torch.equal(loop.w, case.parameters)
    assert loop.trace == []
    loop = MinibatchLoop(case, 0.01)
    assert loop.try_step(gradient)
    assert len(loop.trace) == 1
    assert loop.trace[0]["step_norm"] == float((loop.w - case.parameters).norm()) > 0
    result = loop.result(Status.COMPLETED, "done")
    assert (result.status, result.stop_reason, result.notes) == (Status.COMPLETED, "done", [])
    assert result.parameters.data_ptr() != loop.w.data_ptr()


def test_only_what_is_to_move_moves():
    case = problem()
    moving = torch.arange(12) % 3 == 0
    loop = MinibatchLoop(case, 0.1, moving)
    for _ in range(3):
        loop.step(case.retained.gradient(loop.w))
    assert torch.equal(loop.w != case.parameters, moving)


def test_a_mixed_pass_weighs_by_the_mass_of_the_erased_rows():
    case = problem(iterator_train__batch_size=-1)
    other = case.erased.with_targets(np.ones(4, dtype=np.int64), rows=np.arange(4))
    loop, w = MinibatchLoop(case, 0.1), case.parameters
    loop.mixed_pass(other)
    gradient = 0.8 * case.retained.gradient(w) + 0.2 * other.gradient(w)
    torch.testing.assert_close(loop.w, w - 0.1 * gradient.sign(), rtol=0, atol=1e-5)
    assert len(loop.trace) == 1


def test_batch_size_of_the_net():
    case = problem()
    assert training_batch_size(case) == 8
    case.net.batch_size = -1
    assert training_batch_size(case) == 40
    case.net.iterator_train__batch_size = 5
    assert training_batch_size(case) == 5
