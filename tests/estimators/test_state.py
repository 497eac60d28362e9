"""What a fitted estimator remembers: one frozen object that any file format can carry."""

import dataclasses
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.unlearners import CertifiedRemoval, HessianFreeRecording, RewindToDelete
from tests._problems import classifier

X, y = load_iris(return_X_y=True)


def linear(unlearner):
    return classifier(
        unlearner, nn.Linear(4, 3).double(), max_epochs=4, lr=0.1, batch_size=-1, optimizer__weight_decay=0.01
    ).fit(X, y)


FITTED = {
    "rows kept": lambda: UnlearnableClassifier(random_state=0).fit(X, y),
    "rows not kept": lambda: UnlearnableClassifier(random_state=0, keep_training_set=False).fit(X, y),
    "influences": lambda: linear(HessianFreeRecording()),
    "checkpoint": lambda: linear(RewindToDelete()),
    "perturbation": lambda: linear(CertifiedRemoval(epsilon=5.0)),
}


def leaves(value):
    """What a file gets to see of an object: its state, and what is in there."""
    if dataclasses.is_dataclass(value):
        value = value.__getstate__() or {}
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield value


@pytest.mark.parametrize("name", FITTED)
def test_a_file_sees_numpy_arrays_and_no_tensors(name):
    seen = list(leaves(FITTED[name]().unlearning_state_))
    assert any(isinstance(each, np.ndarray) for each in seen)
    assert not any(isinstance(each, torch.Tensor) for each in seen)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("how", ["pickle", "joblib", "mapped"])
def test_a_loaded_estimator_forgets_as_the_one_that_was_saved(name, how, tmp_path):
    est = FITTED[name]()
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(est))
    else:
        joblib.dump(est, tmp_path / "est.joblib")
        loaded = joblib.load(tmp_path / "est.joblib", mmap_mode="r" if how == "mapped" else None)
    for each in (est, loaded):
        each.partial_forget(X[:3], y[:3]) if name == "rows not kept" else each.forget(X[:3])
    np.testing.assert_array_equal(loaded.predict_proba(X), est.predict_proba(X))


def test_it_is_replaced_and_never_changed():
    est = UnlearnableClassifier(random_state=0).fit(X, y)
    before = est.unlearning_state_
    residual = before.anchor.residual.clone()
    est.forget(X[:3])
    assert est.unlearning_state_ is not before
    assert torch.equal(before.anchor.residual, residual)
    assert before.anchor.n_rows == 150
    assert est.unlearning_state_.anchor.n_rows == 147
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.seed = 1


def test_half_precision_that_numpy_lacks_is_widened():
    anchor = UnlearnableClassifier(random_state=0).fit(X, y).unlearning_state_.anchor
    narrow = dataclasses.replace(anchor, residual=anchor.residual.to(torch.bfloat16))
    loaded = pickle.loads(pickle.dumps(narrow))
    assert loaded.residual.dtype == torch.float32
    assert torch.equal(loaded.residual, narrow.residual.float())
