"""A request to the built-in network is met under the shift and scale of the rows that stay."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_regression

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._constants import built_in, constants_of, fold, gradient_under
from sk_unlearn.estimators._problem import stored_risk
from sk_unlearn.estimators.default_net import MLPNetClassifier, MLPNetRegressor
from sk_unlearn.metrics import jensen_shannon
from sk_unlearn.unlearners import StoCuReNU, Unlearner
from sk_unlearn.utils._twins import twin


class Fails(Unlearner):
    def unlearn(self, problem):
        raise FloatingPointError("on purpose")


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


@pytest.fixture(scope="module")
def fitted():
    X, y = digits()
    return UnlearnableClassifier(random_state=0).fit(X, y)


def without_class(fitted, unlearner):
    X, y = digits()
    est = copy.deepcopy(fitted).set_params(unlearner=unlearner)
    return est.forget(X[y == 0])


def test_a_class_that_filled_columns_is_undone(fitted):
    # Pixels that hardly any other digit blackens have another scale without its rows.
    X, y = digits()
    gone = y == 0
    retrained = [UnlearnableClassifier(random_state=seed).fit(X[~gone], y[~gone]) for seed in (1, 2)]
    est = without_class(fitted, StoCuReNU(renew=False))

    def p(model):
        known = np.zeros((gone.sum(), 10))
        known[:, model.classes_] = model.predict_proba(X[gone])
        return known

    apart = jensen_shannon(p(retrained[0]), p(retrained[1]))
    assert np.mean([jensen_shannon(p(est), p(each)) for each in retrained]) < 5 * apart
    assert any("shift or scale" in note for note in est.unlearning_report_.notes)


def test_what_fails_changes_nothing(fitted):
    est = copy.deepcopy(fitted)
    before = {name: value.clone() for name, value in est.net_.module_.state_dict().items()}
    X, y = digits()
    est.set_params(unlearner=Fails())
    with pytest.raises(FloatingPointError, match="on purpose"):
        est.forget(X[y == 0])
    for name, value in est.net_.module_.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_anchor_of_the_next_request_belongs_to_the_new_constants(fitted):
    est = without_class(fitted, StoCuReNU(renew=False))
    anchor, risk = est.unlearning_state_.anchor, stored_risk(est.net_, est.training_set_)
    expected = risk.gradient(risk.parameters())
    assert float((anchor.gradient - expected).norm()) < 1e-4 * float(expected.norm())


@pytest.mark.parametrize("regression", [False, True])
def test_a_gradient_follows_the_constants(regression):
    X, y = make_regression(120, 5, noise=3.0, random_state=0)  # no number so far out that it is drawn in
    if regression:
        est = UnlearnableRegressor(MLPNetRegressor(max_epochs=3, weight_decay=0.0), random_state=0).fit(X, y)
    else:
        est = UnlearnableClassifier(MLPNetClassifier(max_epochs=3, weight_decay=0.0), random_state=0).fit(X, y > 0)
    other = twin(est.net_, share_tensors=False)
    module, rng = built_in(other), np.random.default_rng(0)
    old = constants_of(module)
    factor = 2.0 ** rng.integers(-1, 2, len(old.scale))
    fold(module, type(old)(old.shift + 0.1 * old.scale, old.scale * factor, old.n_inputs))
    before, after = stored_risk(est.net_, est.training_set_), stored_risk(other, est.training_set_)
    expected = after.gradient(after.parameters())
    got = gradient_under(module, old, before.gradient(before.parameters()))
    assert float((got - expected).norm()) < 1e-4 * float(expected.norm())
