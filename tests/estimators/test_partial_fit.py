"""partial_fit: rows that come in parts, and are forgotten as if they had come together."""

import numpy as np
import pytest
from skorch import NeuralNetRegressor
from skorch.dataset import ValidSplit

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.rows import RowRole
from tests import _problems
from tests._problems import Mlp, parameters

rng = np.random.default_rng(9)
X = rng.normal(size=(60, 3))
labels = np.where(X[:, 0] > 0, "b", "a")


def classifier(**settings):
    """One that holds out a fifth of its rows, as skorch does unless told otherwise."""
    defaults = {"max_epochs": 4, "lr": 0.3, "batch_size": 16, "train_split": ValidSplit(5, stratified=True)}
    return _problems.classifier(**(defaults | settings))


def test_first_call_names_the_classes():
    est = classifier().partial_fit(X[:20], labels[:20], classes=["a", "b", "c"])
    assert est.classes_.tolist() == ["a", "b", "c"]
    est.partial_fit(X[20:40], ["c"] * 20)
    assert est.predict_proba(X).shape == (60, 3)
    est.forget(X[:3]).forget(X[20:23], ["c"] * 3)
    assert len(est.training_set_) == 34
    assert len(est.unlearning_history_) == 2


def test_all_rows_enter_a_gradient_in_one_pass():
    est = classifier().partial_fit(X[:40], labels[:40])
    assert (est.training_set_.role == RowRole.TRAINED).all()
    assert len(est.net_.history) == 1
    assert est.net_.train_split is not None
    est.partial_fit(X[40:], labels[40:])
    assert len(est.net_.history) == 2
    np.testing.assert_array_equal(est.training_set_.X, X.astype(np.float32))


def test_after_fit_it_trains_on():
    est = classifier(train_split=None).fit(X[:40], labels[:40])
    before = parameters(est)
    est.partial_fit(X[40:], labels[40:])
    assert not np.array_equal(before, parameters(est))
    assert len(est.training_set_) == 60
    est.forget(X[[0, 59]])
    assert est.unlearning_report_.n_erased == 2


def test_residual_is_that_of_all_rows_where_training_ended():
    est = classifier(train_split=None).fit(X[:40], labels[:40]).forget(X[:2]).partial_fit(X[40:], labels[40:])
    w, rows = flat_parameters(est.net_), est.training_set_
    residual = EmpiricalRisk(est.net_, rows.X, rows.y).gradient(w)
    est.forget(X[2:4])
    assert est.unlearning_report_.residual_norm == pytest.approx(float(residual.norm()), rel=1e-5)


def test_forgotten_rows_may_be_learnt_again():
    est = classifier(train_split=None).fit(X, labels).forget(X[:2])
    est.partial_fit(X[:2], labels[:2])
    assert len(est.training_set_) == 60
    est.forget(X[:2])


def test_deterministic_also_after_a_refit():
    def passes(est):
        est.fit(X[:40], labels[:40]).partial_fit(X[40:], labels[40:])
        return parameters(est)

    est = classifier(iterator_train__shuffle=True)
    first = passes(est)
    assert np.array_equal(first, passes(classifier(iterator_train__shuffle=True)))
    assert np.array_equal(first, passes(est))


def test_weights_and_ids():
    est = classifier(train_split=None)
    est.partial_fit(X[:30], labels[:30], sample_weight=np.arange(1, 31), sample_id=np.arange(30))
    est.partial_fit(X[30:], labels[30:], sample_id=np.arange(30, 60))
    np.testing.assert_array_equal(est.training_set_.sample_weight, [*range(1, 31), *[1] * 30])
    est.forget(sample_id=[0, 59])
    assert len(est.training_set_) == 58


@pytest.mark.parametrize("given_first", [True, False])
def test_ids_now_and_then_are_refused_before_anything_is_learnt(given_first):
    ids = np.arange(30)
    est = classifier().partial_fit(X[:30], labels[:30], sample_id=ids if given_first else None)
    before = parameters(est)
    with pytest.raises(ValueError, match=r"sample_id was .* both times or never"):
        est.partial_fit(X[30:], labels[30:], sample_id=None if given_first else ids)
    with pytest.raises(ValueError, match="sample_id"):
        est.partial_fit(X[30:], labels[30:], sample_id=ids[:5])
    assert np.array_equal(before, parameters(est))
    assert len(est.training_set_) == 30


def test_refused():
    est = classifier()
    with pytest.raises(ValueError, match=r"classes must hold every label in y; 1 of 2 are missing"):
        est.partial_fit(X, labels, classes=["a"])
    est.partial_fit(X[:30], labels[:30])
    with pytest.raises(ValueError, match="y holds labels that fit has not seen"):
        est.partial_fit(X[30:], ["z"] * 30)
    with pytest.raises(ValueError, match="features"):
        est.partial_fit(X[30:, :2], labels[30:])
    assert len(est.training_set_) == 30
    with pytest.raises(TypeError, match="unexpected keyword argument 'classes'"):
        UnlearnableRegressor().partial_fit(X, X[:, 0], classes=[1])


def test_regressor():
    net = NeuralNetRegressor(Mlp, max_epochs=2, lr=0.05, verbose=0)
    est = UnlearnableRegressor(net, random_state=0).partial_fit(X[:30], X[:30, 0]).partial_fit(X[30:], X[30:, 0])
    est.forget(X[:2]).forget(X[30:32], X[30:32, 0])
    assert len(est.training_set_) == 56


def test_default_net():
    est = UnlearnableClassifier(random_state=0).partial_fit(X[:30], labels[:30]).partial_fit(X[30:], labels[30:])
    assert est.forget(X[[0, 40]]).unlearning_report_.parameters_moved
