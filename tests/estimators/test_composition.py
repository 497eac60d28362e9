"""Inside scikit-learn: pipelines, searches, cloning, nested parameters, persistence, metadata routing."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.unlearners import CuReNU, FineTune, StoCuReNU
from tests import _problems
from tests._problems import parameters

rng = np.random.default_rng(10)
X = rng.normal(size=(60, 3)) * [1, 10, 100]
labels = np.where(X[:, 0] > 0, "b", "a")


def classifier(unlearner=None, **settings):
    return _problems.classifier(unlearner, max_epochs=4, lr=0.3, batch_size=16, **settings)


# ----------------------------------------------------------------------------------------------------------- pipelines


def test_last_step_of_a_pipeline():
    pipe = make_pipeline(StandardScaler(), classifier()).fit(X, labels)
    pipe[-1].forget(pipe[:-1].transform(X[:4]))
    assert len(pipe[-1].training_set_) == 56
    assert pipe.predict(X).shape == (60,)
    with pytest.raises(ValueError, match="4 of 4 rows"):
        pipe[-1].forget(pipe[:-1].transform(X[:4]))


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_transform_output(output):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    with sklearn.config_context(transform_output=output):
        pipe = make_pipeline(StandardScaler(), classifier()).fit(frame, labels)
        pipe[-1].forget(pipe[:-1].transform(frame[:4]))
        assert pipe.predict_proba(frame).shape == (60, 2)
    assert hasattr(pipe[-1], "feature_names_in_") == (output == "pandas")
    assert len(pipe[-1].training_set_) == 56


def test_sample_id_is_routed_through_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        last = classifier().set_fit_request(sample_id=True, sample_weight=True)
        pipe = Pipeline([("scale", StandardScaler().set_fit_request(sample_weight=False)), ("model", last)])
        pipe.fit(X, labels, sample_id=np.arange(60) // 2, sample_weight=np.arange(1, 61))
        pipe[-1].forget(sample_id=[0, 29])
        assert len(pipe[-1].training_set_) == 56
        assert pipe[-1].training_set_.sample_weight[0] == 3


def test_sample_id_without_routing():
    pipe = Pipeline([("scale", StandardScaler()), ("model", classifier())])
    pipe.fit(X, labels, model__sample_id=np.arange(60))
    pipe[-1].forget(sample_id=[7])


def test_sample_id_is_routed_through_a_search():
    with sklearn.config_context(enable_metadata_routing=True):
        est = classifier(CuReNU()).set_fit_request(sample_id=True)
        search = GridSearchCV(est, {"unlearner__max_steps": [1, 2]}, cv=2, scoring="accuracy")
        search.fit(X, labels, sample_id=np.arange(60))
        search.best_estimator_.forget(sample_id=[3])


# ------------------------------------------------------------------------------------------------------------ searches


def test_grid_search_over_the_unlearner_with_the_retrain_scorer():
    search = GridSearchCV(
        classifier(StoCuReNU()),
        {"unlearner__L": ["auto", 1.0], "unlearner__max_steps": [6, 9]},
        scoring=make_retrain_scorer("js", request=0.1),
        cv=2,
        error_score="raise",
    )
    search.fit(X / [1, 10, 100], labels)
    scores = search.cv_results_["mean_test_score"]
    assert (scores <= 0).all()
    assert len(set(scores)) > 1
    assert search.best_estimator_.forget(X[:2] / [1, 10, 100]).unlearning_report_.parameters_moved


def test_grid_search_over_unlearners_and_the_net():
    grid = {"unlearner": [None, FineTune(), CuReNU(L=1.0)], "estimator__lr": [0.1, 0.3]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, labels)
    assert len(search.cv_results_["params"]) == 6


def test_search_in_a_pipeline():
    pipe = make_pipeline(StandardScaler(), classifier(CuReNU()))
    scorer = make_retrain_scorer("total_variation", request=3)
    search = GridSearchCV(pipe, {"unlearnableclassifier__unlearner__max_steps": [1, 2]}, scoring=scorer, cv=2)
    search.fit(X, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_cross_validation():
    assert cross_val_score(classifier(), X, labels, cv=3).shape == (3,)
    assert cross_val_predict(classifier(), X, labels, cv=3, method="predict_proba").shape == (60, 2)
    scores = cross_val_score(classifier(), X, labels, cv=2, scoring=make_retrain_scorer(request=0.2))
    assert (scores <= 0).all()


def test_transformed_target():
    inner = _problems.regressor(max_epochs=4, lr=0.1)
    est = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X / 100, X[:, 2])
    est.regressor_.forget(X[:3] / 100)
    assert est.predict(X / 100).shape == (60,)


# ---------------------------------------------------------------------------------------------- cloning and parameters


def test_clone():
    est = classifier(CuReNU(L=2.0)).fit(X, labels).forget(X[:3])
    twin = clone(est)
    with pytest.raises(NotFittedError):
        twin.predict(X)
    assert twin.unlearner is not est.unlearner
    assert twin.get_params()["unlearner__L"] == 2.0
    assert np.array_equal(parameters(twin.fit(X, labels)), parameters(classifier().fit(X, labels)))


def test_nested_parameters():
    est = classifier(StoCuReNU())
    est.set_params(estimator__lr=0.01, estimator__module__n_hidden=7, unlearner__tol=0.1, verbose=0)
    est.fit(X, labels)
    assert est.net_.lr == 0.01
    assert est.net_.module_.body[0].out_features == 7
    assert est.get_params()["unlearner__tol"] == 0.1
    with pytest.raises(ValueError, match="nonsense"):
        est.set_params(unlearner__nonsense=1)


def test_unlearner_may_be_changed_between_requests():
    est = classifier().fit(X, labels)
    for unlearner in (None, CuReNU(), FineTune(), StoCuReNU(max_steps=1)):
        est.set_params(unlearner=unlearner).forget(est.training_set_.X[:2])
    assert [r.method for r in est.unlearning_history_] == ["StoCuReNU", "CuReNU", "FineTune", "StoCuReNU"]


def test_unlearner_given_is_never_touched():
    unlearner = StoCuReNU()
    before = dict(vars(unlearner))
    classifier(unlearner).fit(X, labels).forget(X[:3])
    assert vars(unlearner) == before


def test_tags():
    assert is_classifier(classifier())
    assert is_regressor(UnlearnableRegressor())
    assert UnlearnableRegressor().__sklearn_tags__().target_tags.multi_output


def test_random_state_instance_and_none():
    one, two = (classifier().set_params(random_state=np.random.RandomState(5)).fit(X, labels) for _ in range(2))
    assert np.array_equal(parameters(one), parameters(two))
    one, two = (classifier().set_params(random_state=None).fit(X, labels) for _ in range(2))
    assert not np.array_equal(parameters(one), parameters(two))


def test_global_generators_are_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  the legacy global state is what is tested
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  the legacy global state is what is tested
    classifier().fit(X, labels).forget(X[:3]).set_params(unlearner=FineTune()).forget(X[3:5])
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(legacy, np.random.get_state()[1])  # noqa: NPY002  the legacy global state is what is tested


# --------------------------------------------------------------------------------------------------------- persistence


@pytest.mark.parametrize("how", ["joblib", "joblib compressed", "memory map", "pickle", "deepcopy"])
@pytest.mark.parametrize("keep", [True, False])
def test_stored_and_loaded_estimators_forget_alike(tmp_path, how, keep):
    est = classifier(keep_training_set=keep).fit(X, labels)
    path = tmp_path / "est.joblib"
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(est))
    elif how == "deepcopy":
        loaded = copy.deepcopy(est)
    else:
        joblib.dump(est, path, compress=3 if how == "joblib compressed" else 0)
        loaded = joblib.load(path, mmap_mode="r" if how == "memory map" else None)
    for each in (est, loaded):
        _ = each.forget(X[:3]) if keep else each.partial_forget(X[:3], labels[:3])
    assert np.array_equal(parameters(est), parameters(loaded))
    assert len(loaded.unlearning_history_) == 1
    np.testing.assert_array_equal(est.predict_proba(X), loaded.predict_proba(X))


def test_unfitted_estimators_are_stored_too(tmp_path):
    loaded = pickle.loads(pickle.dumps(classifier(CuReNU(L=3.0))))
    assert loaded.unlearner.L == 3.0
    loaded.fit(X, labels)


class Doubling(UnlearnableClassifier):
    """Prepares its rows itself, as subclasses do."""

    def fit(self, X, y, sample_weight=None, *, sample_id=None):
        self.factor_ = 2.0
        return super().fit(self.factor_ * np.asarray(X), y, sample_weight, sample_id=sample_id)

    def _learn_targets(self, y, classes=None):
        self.first_target_ = y[0]
        return super()._learn_targets(y, classes)


def test_a_subclass_keeps_what_it_sets_around_a_fit():
    est = Doubling(random_state=0).fit(X, labels)
    assert est.factor_ == 2.0
    assert est.first_target_ == labels[0]
    assert est.fit(X[::-1], labels[::-1]).first_target_ == labels[-1]
    est.forget(2 * X[:2])
    assert len(est.training_set_) == len(X) - 2
