"""The built-in network with settings: the same as None by default, and every setting can be set and searched."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import EpochScoring
from torch import nn

from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.unlearners import FineTune, Retrain, Status, StoCuReNU, Unlearner, UnlearningResult
from tests._problems import parameters

X, y = (part[::3] for part in load_iris(return_X_y=True))
A, b = (part[:60] for part in load_diabetes(return_X_y=True))
CASES = {
    "classifier": (UnlearnableClassifier, MLPNetClassifier, X, y),
    "regressor": (UnlearnableRegressor, MLPNetRegressor, A, b),
}
both = pytest.mark.parametrize("kind", CASES)


class Stays(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), Status.STALLED, "by decree", target=problem.residual)


def fitted(kind, unlearner=None, memory=None, **settings):
    estimator, net, data, target = CASES[kind]
    est = estimator(net(**({"max_epochs": 5} | settings)), unlearner, random_state=0, memory=memory)
    return est.fit(data, target)


@functools.cache
def by_none_and_by_its_default(kind):
    estimator, net, data, target = CASES[kind]
    data = data.copy()
    data[7] *= 1e6  # so that constants change with the request
    return *(estimator(each, random_state=0).fit(data, target) for each in (None, net())), data


@both
@pytest.mark.parametrize("unlearner", [None, FineTune(), Retrain()])
def test_none_is_its_default_instance_bit_for_bit(kind, unlearner):
    *fits, data = by_none_and_by_its_default(kind)
    one, other = (copy.deepcopy(each).set_params(unlearner=unlearner) for each in fits)
    assert type(one.net_) is type(other.net_)
    for each in (one, other):
        each.forget(data[7:8]).forget(data[:2])
    np.testing.assert_array_equal(parameters(one), parameters(other))
    np.testing.assert_array_equal(one.predict(data), other.predict(data))
    assert one.unlearning_report_.notes == other.unlearning_report_.notes


@pytest.mark.parametrize("setting", [{"module__width": 0}, {"module__width": 8.5}, {"module__depth": -1}])
@both
def test_sizes_that_make_no_network(kind, setting):
    estimator, net, data, target = CASES[kind]
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be a whole number of at least"):
        estimator(net(**setting), random_state=0).fit(data, target)


@both
def test_it_is_a_good_citizen(kind):
    _, net, data, target = CASES[kind]
    given = net(module__width=8, lr=0.01)
    assert given.get_params(deep=False).keys() >= {"module__width", "module__depth", "lr", "max_epochs", "weight_decay"}
    again = pickle.loads(pickle.dumps(clone(given).set_params(module__width=6, weight_decay=0.1)))
    assert (again.module__width, again.lr, again.weight_decay, given.module__width) == (6, 0.01, 0.1, 8)
    before = given.get_params(deep=False)
    estimator = CASES[kind][0]
    est = estimator(given, random_state=0).set_params(estimator__max_epochs=3).fit(data, target).forget(data[:2])
    assert given.get_params(deep=False) == before | {"max_epochs": 3}
    assert est.net_.module_.body[0].out_features == 8
    assert len(est.net_.history) == 3
    assert pickle.loads(pickle.dumps(est)).predict(data).shape == target.shape


def test_a_search_over_its_settings_by_closeness_to_retraining():
    est = UnlearnableClassifier(MLPNetClassifier(max_epochs=3), unlearner=StoCuReNU(), random_state=0)
    grid = {"estimator__module__width": [4, 8], "estimator__lr": [0.02], "estimator__weight_decay": [0.1]}
    search = GridSearchCV(est, grid, scoring=make_retrain_scorer("js", request=0.1), cv=2).fit(X, y)
    best = search.best_estimator_.net_
    assert best.module_.body[0].out_features == search.best_params_["estimator__module__width"]
    assert [group["weight_decay"] for group in best.optimizer_.param_groups] == [0.1]


@both
def test_the_cache_tells_settings_apart(kind, tmp_path):
    one, again = (fitted(kind, memory=str(tmp_path)) for _ in range(2))
    other = fitted(kind, memory=str(tmp_path), module__width=8)
    np.testing.assert_array_equal(parameters(one), parameters(again))
    assert len(parameters(other)) < len(parameters(one))
    np.testing.assert_array_equal(parameters(one), parameters(fitted(kind)))


def test_the_decay_is_in_units_of_the_targets_unless_it_is_the_optimisers():
    decays = [fitted("regressor", weight_decay=0.5).net_, fitted("regressor", optimizer__weight_decay=0.5).net_]
    relative, absolute = (net.optimizer_.param_groups[0]["weight_decay"] for net in decays)
    assert relative == 0.5 * float(decays[0].module_.output_scale.square())
    assert absolute == 0.5


@pytest.mark.parametrize("settings", [{"weight_decay": 0.5}, {"optimizer__weight_decay": 0.5}])
def test_after_a_request_the_decay_is_that_of_a_new_fit(settings):
    target = b.copy()
    target[:20] *= 100
    est = UnlearnableRegressor(MLPNetRegressor(max_epochs=3, **settings), Stays(), random_state=0).fit(A, target)
    before = est.net_.optimizer_.param_groups[0]["weight_decay"]
    est.forget(A[:20])
    new = clone(est).fit(A[20:], target[20:])
    decay = est.net_.optimizer_.param_groups[0]["weight_decay"]
    assert decay == new.net_.optimizer_.param_groups[0]["weight_decay"]
    assert est.net_.get_params()["optimizer__weight_decay"] == decay
    assert (decay == before) == ("optimizer__weight_decay" in settings)


def test_constants_of_the_users_stay():
    own = {"module__input_shift": [0.0] * 4, "module__input_scale": [2.0] * 4}
    data = X.copy()
    data[7] *= 1e6
    est = fitted("classifier", **own)
    assert est.net_.module_.input_scale.tolist() == [2.0] * 4
    est = UnlearnableClassifier(MLPNetClassifier(max_epochs=3, **own), Stays(), random_state=0).fit(data, y)
    est.forget(data[7:8])
    assert est.net_.module_.input_scale.tolist() == [2.0] * 4
    assert not any("shift or scale" in note for note in est.unlearning_report_.notes)
    none = fitted("regressor", module__input_shift=None).net_.module_
    assert none.input_shift is None
    assert none.output_shift is None


def test_callbacks_come_after_the_schedule():
    scoring = EpochScoring("accuracy", on_train=True, name="accuracy")
    net = fitted("classifier", callbacks=[("score", scoring)]).net_
    assert net.history[:, "accuracy"]
    rates = net.history[:, "event_lr"]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.2 * rates[0]
    net = fitted("classifier", callbacks="disable").net_
    assert net.callbacks_ == []


def test_an_optimiser_without_decay():
    est = fitted("classifier", optimizer=torch.optim.LBFGS, batch_size=-1, lr=0.5)
    assert est.forget(X[:2]).score(X, y) > 0.9


class Own(MLPNetClassifier):
    def train_step_single(self, batch, **fit_params):
        self.n_steps_ = getattr(self, "n_steps_", 0) + 1
        return super().train_step_single(batch, **fit_params)


def test_a_subclass_stays_what_it_is():
    est = UnlearnableClassifier(Own(max_epochs=3), random_state=0).fit(X, y).forget(X[:1])
    assert type(est.net_) is Own
    assert est.net_.n_steps_ == 3


@both
def test_what_was_fitted_can_be_adopted(kind):
    estimator, _, data, target = CASES[kind]
    est = fitted(kind)
    adopted = estimator.from_fitted(est.net_, est.training_set_.X, target, random_state=0)
    np.testing.assert_array_equal(adopted.predict(data), est.predict(data))
    adopted.forget(est.training_set_.X[:2])
    given = estimator.from_fitted(est.net_, est.training_set_.X, target, estimator=est.estimator)
    given.forget(est.training_set_.X[:2])


# -------------------------------------------------------------------------------------------------------------- errors


@both
def test_it_cannot_train_without_rows_to_take_settings_from(kind):
    _, net, data, target = CASES[kind]
    with pytest.raises(ValueError, match=f"depend on the rows to train on; fit Unlearnable{kind.capitalize()}"):
        net().fit(data, target)


@pytest.mark.parametrize(
    ("estimator", "parameter", "message"),
    [
        (None, "estimator__lr", r"pass estimator=MLPNetClassifier\(\), which is what None stands for"),
        (
            nn.Linear,
            "estimator__module__width",
            r"estimator=Linear has no parameters: wrap it .* NeuralNetClassifier\(Lin",
        ),
        (nn.Linear(4, 3), "estimator__lr", r"wrap it in a skorch net, such as NeuralNetClassifier\(Linear, ...\)"),
        (MLPNetClassifier, "estimator__lr", r"pass an instance, MLPNetClassifier\(\)"),
        (None, "unlearner__L", r"unlearner__L cannot be set, .* pass unlearner=StoCuReNU\(\)"),
    ],
)
def test_parameters_of_nothing_name_the_cure(estimator, parameter, message):
    est = UnlearnableClassifier(estimator)
    with pytest.raises(ValueError, match=message):
        est.set_params(**{parameter: 1})
    with pytest.raises(ValueError, match=message):
        GridSearchCV(est, {parameter: [1, 2]}, cv=2).fit(X, y)


def test_parameters_may_come_with_what_has_them():
    est = UnlearnableClassifier().set_params(estimator=MLPNetClassifier(), estimator__module__width=8)
    assert est.estimator.module__width == 8
    with pytest.raises(ValueError, match="estimator=None"):
        est.set_params(estimator=None, estimator__lr=1)
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        est.set_params(nonsense=1)


def test_the_wrong_kind_and_images():
    with pytest.raises(TypeError, match="it is a regressor, for UnlearnableRegressor"):
        UnlearnableClassifier(MLPNetRegressor()).fit(X, y)
    with pytest.raises(ValueError, match="MLPNetClassifier builds a network for tables"):
        UnlearnableClassifier(MLPNetClassifier()).fit(np.zeros((6, 2, 2)), [0, 1] * 3)
