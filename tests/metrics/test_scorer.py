import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sk_unlearn.metrics import jensen_shannon, make_retrain_scorer, rms_distance
from sk_unlearn.unlearners import UnlearnerTags
from tests._problems import tiny_classifier

FITS = []
"""What every stand-in was fitted with, in order."""


@pytest.fixture(autouse=True)
def _no_fits_yet():
    FITS.clear()


class Rows:
    """A stand-in for TrainingSet."""

    def __init__(self, X, y, sample_weight, sample_id):
        self.X, self.y, self.sample_weight, self.sample_id = X, y, sample_weight, sample_id

    def __len__(self):
        return len(self.X)

    def without(self, erased):
        columns = (self.X, self.y, self.sample_weight, self.sample_id)
        return Rows(*(None if column is None else column[~erased] for column in columns))


class ForgettingStandIn(BaseEstimator):
    """A convex model with the public methods of the unlearnable estimators.

    Its unlearner is "retrain", which is exact, or "nothing". With `spread` its predictions depend on the seed.
    """

    def __init__(self, estimator=None, unlearner=None, keep_training_set=True, random_state=None, spread=0.0):
        self.estimator = estimator
        self.unlearner = unlearner
        self.keep_training_set = keep_training_set
        self.random_state = random_state
        self.spread = spread

    def fit(self, X, y, sample_weight=None, sample_id=None):
        FITS.append(
            {"X": X, "y": y, "sample_weight": sample_weight, "sample_id": sample_id, "params": self.get_params()}
        )
        rows = Rows(np.asarray(X, dtype=np.float32), self._encode(y), sample_weight, sample_id)
        self._train(rows)
        if self.keep_training_set:
            self.training_set_ = rows
        return self

    def _train(self, rows):
        self.model_ = self._blank().fit(rows.X, rows.y, sample_weight=rows.sample_weight)
        if self.spread:
            noise = np.random.default_rng(self.random_state).normal(size=self.model_.coef_.shape)
            self.model_.coef_ = self.model_.coef_ + self.spread * noise

    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        rows = self.training_set_
        doomed = {(x.tobytes(), label) for x, label in zip(X_del, self._code(y_del), strict=True)}
        erased = np.array([(x.tobytes(), label) in doomed for x, label in zip(rows.X, rows.y, strict=True)])
        self.training_set_ = rows.without(erased)
        if self.unlearner == "retrain":
            self._train(self.training_set_)
        return self


class StandInClassifier(ClassifierMixin, ForgettingStandIn):
    def _blank(self):
        return LogisticRegression(C=0.5)

    def _encode(self, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        return codes

    def _code(self, y):
        return np.searchsorted(self.classes_, y)

    def predict_proba(self, X):
        known = self.model_.predict_proba(np.asarray(X, dtype=np.float32))
        wide = np.zeros((len(X), len(self.classes_)))
        wide[:, self.model_.classes_] = known
        return wide

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class StandInRegressor(RegressorMixin, ForgettingStandIn):
    def _blank(self):
        return LinearRegression()

    def _encode(self, y):
        return np.asarray(y, dtype=np.float32)

    _code = _encode

    def predict(self, X):
        return self.model_.predict(np.asarray(X, dtype=np.float32))


@pytest.fixture
def data():
    X, codes = make_classification(
        n_samples=90, n_features=5, n_informative=4, n_redundant=0, n_classes=3, random_state=1
    )
    return X, np.array(["ant", "bee", "cow"])[codes]


def first_ten(X, y, rng):
    return np.arange(10)


# ------------------------------------------------------------------------------------------------------------ the score


def test_exact_unlearning_scores_zero(data):
    X, y = data
    model = StandInClassifier(unlearner="retrain", random_state=3, spread=0.5).fit(X[:60], y[:60])
    assert make_retrain_scorer()(model, X[60:], y[60:]) == pytest.approx(0, abs=1e-12)


def test_score_is_minus_the_mean_of_both_halves(data):
    X, y = data
    model = StandInClassifier(unlearner="nothing").fit(X[:60], y[:60])
    reference = LogisticRegression(C=0.5).fit(np.float32(X[10:60]), y[10:60])

    def js(rows):
        return jensen_shannon(model.predict_proba(rows), reference.predict_proba(np.float32(rows)))

    score = make_retrain_scorer(request=first_ten)(model, X[60:], y[60:])
    assert score == pytest.approx(-(js(X[:10]) + js(X[60:])) / 2, rel=1e-9)
    assert score < -1e-4


def test_regressor_by_rms():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X[:, 0] + rng.normal(size=50)
    model = StandInRegressor(unlearner="nothing").fit(X[:40], y[:40])
    reference = LinearRegression().fit(np.float32(X[10:40]), np.float32(y[10:40]))
    halves = [rms_distance(model.predict(rows), reference.predict(np.float32(rows))) for rows in (X[:10], X[40:])]
    for by in (None, "rms"):
        score = make_retrain_scorer(by, request=first_ten)(model, X[40:])
        assert score == pytest.approx(-np.mean(halves), rel=1e-6)


def test_pipeline_is_scored_on_transformed_rows(data):
    X, y = data
    X = X * [1, 10, 100, 1, 1] + 5
    pipe = make_pipeline(StandardScaler(), StandInClassifier(unlearner="nothing")).fit(X[:60], y[:60])
    Z = pipe[:-1].transform(X)
    scorer = make_retrain_scorer(request=first_ten)
    expected = scorer(StandInClassifier(unlearner="nothing").fit(Z[:60], y[:60]), Z[60:], y[60:])
    assert scorer(pipe, X[60:], y[60:]) == pytest.approx(expected, rel=1e-12)
    alone = Pipeline([("model", StandInClassifier(unlearner="nothing"))]).fit(Z[:60], y[:60])
    assert scorer(alone, Z[60:]) == pytest.approx(expected, rel=1e-12)


def test_averages_over_references(data):
    X, y = data
    model = StandInClassifier(unlearner="nothing", random_state=0, spread=0.3).fit(X, y)
    score = make_retrain_scorer(request=first_ten, n_references=3)(model, X[60:])
    seeds = [fit["params"]["random_state"] for fit in FITS[1:]]
    distances = []
    for seed in seeds:
        reference = StandInClassifier(random_state=seed, spread=0.3).fit(X[10:], y[10:])
        distances += [
            jensen_shannon(model.predict_proba(rows), reference.predict_proba(rows)) for rows in (X[:10], X[60:])
        ]
    assert len(distances) == 6
    assert score == pytest.approx(-np.mean(distances), rel=1e-9)


# --------------------------------------------------------------------------------------------- what is erased, and kept


@pytest.mark.parametrize(
    ("wanted", "n_erased"),
    [(0.1, 6), (0.001, 1), (7, 7), (np.int64(7), 7), (lambda X, y, rng: np.arange(len(X)) < 4, 4), (first_ten, 10)],
)
def test_number_of_erased_rows(data, wanted, n_erased):
    X, y = data
    model = StandInClassifier(unlearner="nothing").fit(X[:60], y[:60])
    make_retrain_scorer(request=wanted)(model, X[60:])
    assert len(FITS[1]["X"]) == 60 - n_erased


def test_callable_gets_stored_rows_labels_and_generator(data):
    X, y = data
    seen = []

    def bees(X_stored, y_stored, rng):
        seen.append((X_stored, y_stored, rng.random()))
        return y_stored == "bee"

    model = StandInClassifier(unlearner="nothing").fit(X, y)
    for random_state in (0, 0, 1):
        make_retrain_scorer(request=bees, random_state=random_state)(model, X)
    np.testing.assert_array_equal(seen[0][0], np.float32(X))
    np.testing.assert_array_equal(seen[0][1], y)
    assert seen[0][2] == seen[1][2] != seen[2][2]
    assert set(FITS[1]["y"]) == {"ant", "cow"}


def test_whole_class_erased(data):
    X, y = data
    model = StandInClassifier(unlearner="nothing").fit(X, y)
    score = make_retrain_scorer(request={"class": "bee"})(model, X)
    np.testing.assert_array_equal(FITS[1]["X"], np.float32(X[y != "bee"]))
    np.testing.assert_array_equal(FITS[1]["y"], y[y != "bee"])
    # The reference does not know the class, and the model still predicts it: the union has three classes.
    assert -np.log(2) < score < -0.1


def test_draw_depends_on_random_state_alone(data):
    X, y = data
    for unlearner, seed in (("nothing", 0), ("retrain", 1), ("nothing", None)):
        make_retrain_scorer(request=0.3)(StandInClassifier(unlearner=unlearner, random_state=seed).fit(X, y), X)
    make_retrain_scorer(request=0.3, random_state=1)(StandInClassifier().fit(X, y), X)
    first, second, third, other = (fit["X"] for fit in FITS[1::2])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, other)


def test_references_are_trained_without_any_copy_of_an_erased_row(data):
    X, y = data
    X, y = np.concatenate([X, X[:3]]), np.concatenate([y, y[:3]])
    model = StandInClassifier(unlearner="retrain").fit(X, y)
    score = make_retrain_scorer(request=lambda X, y, rng: [0])(model, X)
    np.testing.assert_array_equal(FITS[1]["X"], np.float32(np.delete(X, [0, 90], axis=0)))
    assert score == pytest.approx(0, abs=1e-12)


def test_a_row_of_another_class_with_the_same_features_stays(data):
    X, y = data
    bee, cow = np.flatnonzero(y == "bee")[0], np.flatnonzero(y == "cow")[0]
    X[cow] = X[bee]
    make_retrain_scorer(request={"class": "bee"})(StandInClassifier().fit(X, y), X)
    assert len(FITS[1]["X"]) == np.sum(y != "bee")


def test_references_get_weights_ids_and_original_labels(data):
    X, y = data
    weight, ids = np.linspace(1, 2, 90), np.arange(90) + 500
    model = StandInClassifier(unlearner="retrain").fit(X, y, sample_weight=weight, sample_id=ids)
    assert make_retrain_scorer(request=first_ten)(model, X) == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(FITS[1]["y"], y[10:])
    np.testing.assert_array_equal(FITS[1]["sample_weight"], weight[10:])
    np.testing.assert_array_equal(FITS[1]["sample_id"], ids[10:])


@pytest.mark.parametrize("own", [7, np.int64(7)])
def test_first_reference_has_the_estimators_own_seed(data, own):
    X, y = data
    make_retrain_scorer(n_references=3)(StandInClassifier(random_state=own).fit(X, y), X)
    seeds = [fit["params"]["random_state"] for fit in FITS[1:]]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


def test_all_seeds_are_derived_where_the_estimator_has_none(data):
    X, y = data
    model = StandInClassifier().fit(X, y)
    for random_state in (0, 0, 1):
        make_retrain_scorer(n_references=2, random_state=random_state)(model, X)
    seeds = [fit["params"]["random_state"] for fit in FITS[1:]]
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)


def test_given_estimator_is_left_as_it_is(data):
    X, y = data
    for unlearner in ("retrain", "nothing"):
        pipe = make_pipeline(StandardScaler(), StandInClassifier(unlearner=unlearner, random_state=0)).fit(X, y)
        before = joblib.hash(pipe)
        make_retrain_scorer(n_references=2)(pipe, X)
        assert joblib.hash(pipe) == before


# ------------------------------------------------------------------------------------------------------ in scikit-learn


def test_cross_val_score(data):
    X, y = data
    scores = cross_val_score(StandInClassifier(unlearner="nothing"), X, y, scoring=make_retrain_scorer(), cv=3)
    assert scores.shape == (3,)
    assert (scores < 0).all()


def test_grid_search_finds_the_better_unlearner(data):
    X, y = data
    pipe = make_pipeline(StandardScaler(), StandInClassifier(random_state=0))
    grid = {"standinclassifier__unlearner": ["nothing", "retrain"]}
    search = GridSearchCV(pipe, grid, scoring=make_retrain_scorer(request=0.2), cv=3, error_score="raise").fit(X, y)
    assert search.best_params_ == {"standinclassifier__unlearner": "retrain"}
    assert search.best_score_ == pytest.approx(0, abs=1e-12)
    # The search itself is an ordinary estimator still.
    clone(search)
    assert search.set_params(scoring__request=0.3).scoring.request == 0.3


def test_beside_other_metrics_and_in_threads(data):
    X, y = data
    scoring = {"accuracy": "accuracy", "js": make_retrain_scorer(), "disagree": make_retrain_scorer("accuracy")}
    model = StandInClassifier(unlearner="nothing")
    alone = cross_validate(model, X, y, scoring=scoring, cv=3)
    with parallel_config("threading", n_jobs=2):
        parallel = cross_validate(model, X, y, scoring=scoring, cv=3)
    for name in scoring:
        np.testing.assert_array_equal(alone[f"test_{name}"], parallel[f"test_{name}"])
    assert (alone["test_accuracy"] > 0).all()
    assert (alone["test_disagree"] <= 0).all()


@pytest.mark.parametrize("as_object", [False, True])
def test_memory_trains_a_reference_once_a_fold(data, tmp_path, as_object):
    X, y = data
    memory = joblib.Memory(tmp_path, verbose=0) if as_object else str(tmp_path)
    grid = {"unlearner": ["nothing", "retrain", "other"]}
    scores = {}
    for given in (None, memory):
        FITS.clear()
        search = GridSearchCV(
            StandInClassifier(random_state=0),
            grid,
            scoring=make_retrain_scorer(n_references=2, memory=given),
            cv=KFold(2),
            refit=False,
            error_score="raise",
        ).fit(X, y)
        scores[given is None] = search.cv_results_["mean_test_score"]
        # 3 candidates in 2 folds, and 2 references: for each of these, or for each fold.
        assert len(FITS) == 6 + (12 if given is None else 4)
    np.testing.assert_array_equal(scores[True], scores[False])


def test_memory_tells_different_trainings_apart(data, tmp_path):
    X, y = data
    weight = np.linspace(1, 2, 90)
    for params, weights, wanted in (
        ({"spread": 0.1}, None, 0.1),
        ({"spread": 0.2}, None, 0.1),
        ({"spread": 0.1}, weight, 0.1),
        ({"spread": 0.1}, None, 0.2),
        ({"spread": 0.1, "random_state": 5}, None, 0.1),
    ):
        FITS.clear()
        model = StandInClassifier(**params).fit(X, y, sample_weight=weights)
        make_retrain_scorer(memory=str(tmp_path), request=wanted)(model, X)
        assert len(FITS) == 2


def test_copies_score_alike(data):
    X, y = data
    model = StandInClassifier(unlearner="nothing").fit(X, y)
    scorer = make_retrain_scorer("total_variation", request={"class": "ant"}, n_references=2, random_state=4)
    for twin in (pickle.loads(pickle.dumps(scorer)), clone(scorer), copy.deepcopy(scorer)):
        assert twin(model, X, y) == scorer(model, X, y)
        assert repr(twin) == repr(scorer)


def test_repr():
    assert repr(make_retrain_scorer("kl", request=5)) == "RetrainScorer(distance='kl', request=5)"


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "wanted", [0, 0.0, 1.0, -3, 1.5, True, None, "bee", {"label": 1}, {"class": 1, "n": 2}, np.nan]
)
def test_request_is_checked_when_made(wanted):
    with pytest.raises(ValueError, match=r"request must be a float in \(0, 1\), an int of at least 1"):
        make_retrain_scorer(request=wanted)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"distance": "l2"}, "distance must be one of 'js'"),
        ({"n_references": 0}, "n_references must be an int of at least 1, got 0"),
        ({"n_references": 1.0}, "n_references must be an int of at least 1, got 1.0"),
        ({"random_state": None}, "random_state must be an int .*, got None"),
        ({"random_state": -1}, "random_state must be an int .*, got -1"),
        ({"random_state": np.random.default_rng(0)}, "random_state must be an int"),
        ({"memory": 3}, "'memory' should be None"),
    ],
)
def test_parameters_are_checked_when_made(params, message):
    with pytest.raises(ValueError, match=message):
        make_retrain_scorer(**params)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (90, "asks for 90 of 90 training rows"),
        (200, "asks for 90 of 90 training rows"),
        (0.999, "asks for 90 of 90 training rows"),
        (lambda X, y, rng: np.zeros(90, dtype=bool), "asks for 0 of 90 training rows"),
        (lambda X, y, rng: [], "asks for 0 of 90 training rows"),
        ({"class": "eel"}, r"\{'class': 'eel'\} names a class without training rows; those .* \['ant', 'bee', 'cow'\]"),
        (lambda X, y, rng: [90], r"indices in \[0, 90\)"),
        (lambda X, y, rng: [-1], r"indices in \[0, 90\)"),
        (lambda X, y, rng: [0.5], r"got float64 values of shape \(1,\)"),
        (lambda X, y, rng: np.ones(3, dtype=bool), r"mask of shape \(90,\)"),
    ],
)
def test_requests_that_cannot_be_met(data, wanted, message):
    X, y = data
    model = StandInClassifier().fit(X, y)
    with pytest.raises(ValueError, match=message):
        make_retrain_scorer(request=wanted)(model, X)


def test_every_row_a_copy_of_the_erased_one():
    X, y = np.ones((4, 2)), np.array([0.5, 0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="left no training row"):
        make_retrain_scorer("rms", request=1)(StandInRegressor().fit(X, y), X)


def test_estimators_that_cannot_be_scored(data):
    X, y = data
    scorer = make_retrain_scorer()
    with pytest.raises(ValueError, match=r"estimator that can forget, .*; got LogisticRegression"):
        scorer(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), X)
    with pytest.raises(NotFittedError):
        scorer(StandInClassifier(), X)
    with pytest.raises(ValueError, match="StandInClassifier kept none; set keep_training_set=True"):
        scorer(StandInClassifier(keep_training_set=False).fit(X, y), X)
    regressor = StandInRegressor().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="use distance='rms'"):
        make_retrain_scorer("js")(regressor, X)
    with pytest.raises(ValueError, match="StandInRegressor is not a classifier"):
        make_retrain_scorer("rms", request={"class": 1.0})(regressor, X)
    assert len(FITS) == 2


# ------------------------------------------------------------------------------------------------------ other measures


def test_several_measures_share_references_and_the_copy(data):
    X, y = data
    names = ["js", "distance_ratio", "gap_closed", "tug_of_war", "tug_of_war_mia", "ks_pvalue"]
    model = StandInClassifier(unlearner="nothing", random_state=0, spread=0.3).fit(X[:60], y[:60])
    FITS.clear()
    scores = make_retrain_scorer(names, request=0.3, n_references=2)(model, X[60:], y[60:])
    assert len(FITS) == 2
    assert list(scores) == names
    for name in names:
        alone = make_retrain_scorer(name, request=0.3, n_references=2)(model, X[60:], y[60:])
        assert scores[name] == pytest.approx(alone, abs=1e-12), name
    assert scores["gap_closed"] == 0
    assert scores["distance_ratio"] < 0
    assert 0 < scores["tug_of_war"] <= 1


def test_measures_of_exact_unlearning(data):
    X, y = data
    model = StandInClassifier(unlearner="retrain", random_state=0).fit(X[:60], y[:60])
    names = ("gap_closed", "tug_of_war", "tug_of_war_mia", "ks_pvalue")
    scores = make_retrain_scorer(names, request=first_ten)(model, X[60:], y[60:])
    assert scores == {name: pytest.approx(1, abs=1e-9) for name in names}


def test_several_measures_in_a_search(data, tmp_path):
    X, y = data
    search = GridSearchCV(
        StandInClassifier(random_state=0),
        {"unlearner": ["nothing", "retrain", "other"]},
        scoring=make_retrain_scorer(["js", "tug_of_war", "ks_pvalue"], request=0.2, memory=str(tmp_path)),
        refit="js",
        cv=KFold(2),
        error_score="raise",
    ).fit(X, y)
    # 3 candidates and 1 reference in each of 2 folds, and the best once more.
    assert len(FITS) == 3 * 2 + 2 + 1
    assert search.best_params_ == {"unlearner": "retrain"}
    assert search.cv_results_["mean_test_tug_of_war"][1] == pytest.approx(1)


def test_ratio_of_a_regressor_is_by_rms():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    model = StandInRegressor(unlearner="nothing", random_state=0, spread=0.1).fit(X[:40], X[:40, 0])
    score = make_retrain_scorer("distance_ratio", request=0.2, n_references=3)(model, X[40:])
    assert score < 0
    assert np.isfinite(score)


def test_an_unlearner_that_changes_training_stays_in_the_references(data):
    X, y = data

    class Projecting(BaseEstimator):
        def __unlearner_tags__(self):
            return UnlearnerTags(changes_training=True)

    for unlearner, kept in ((Projecting(), True), (BaseEstimator(), False)):
        FITS.clear()
        make_retrain_scorer(request=0.2)(StandInClassifier(unlearner=unlearner).fit(X, y), X)
        assert (FITS[1]["params"]["unlearner"] is not None) == kept


def test_errors_of_measures(data):
    X, y = data
    for names in ("telepathy", [], ["js", 3]):
        with pytest.raises(ValueError, match="distance must be one of"):
            make_retrain_scorer(names)
    with pytest.raises(ValueError, match="n_references of at least 2"):
        make_retrain_scorer(["js", "distance_ratio"])
    with pytest.raises(ValueError, match="pass y"):
        make_retrain_scorer("tug_of_war")(StandInClassifier().fit(X, y), X)
    with pytest.raises(ValueError, match="not a classifier"):
        make_retrain_scorer("tug_of_war")(StandInRegressor().fit(X, X[:, 0]), X, X[:, 0])


# -------------------------------------------------------------------------------------------------- the real estimators


def test_real_classifier(tmp_path):
    from sk_unlearn import UnlearnableClassifier

    X, y = load_digits(return_X_y=True)
    X, y = X[:240] / 16, y[:240]
    pipe = make_pipeline(FunctionTransformer(), UnlearnableClassifier(random_state=0)).fit(X[:200], y[:200])
    before = pipe.predict_proba(X)
    for distance in ("js", "parameters"):
        scorer = make_retrain_scorer(distance, request=0.1, memory=str(tmp_path))
        score = scorer(pipe, X[200:], y[200:])
        assert np.isfinite(score)
        assert score < 0
        assert score == scorer(pipe, X[200:], y[200:])
    assert make_retrain_scorer(request={"class": 3}, memory=str(tmp_path))(pipe, X[200:]) < 0
    np.testing.assert_array_equal(pipe.predict_proba(X), before)
    assert len(pipe[-1].training_set_) == 200
    # Five references were needed, two different ones: the key is stable, and leaves out what training does not use.
    assert len(list(tmp_path.rglob("output.pkl"))) == 2


def test_real_regressor():
    from sk_unlearn import UnlearnableRegressor

    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    y = X[:, 0] + 0.1 * rng.normal(size=120)
    model = UnlearnableRegressor(random_state=0).fit(X[:100], y[:100])
    score = make_retrain_scorer("rms", request=0.2, n_references=2)(model, X[100:])
    assert np.isfinite(score)
    assert score < 0


@pytest.mark.parametrize(
    "distance", ["js", "distance_ratio", "gap_closed", "tug_of_war", "tug_of_war_mia", "ks_pvalue"]
)
def test_data_frames_keep_their_names(distance):
    """So that neither the estimator nor retrained ones warn of names that are missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    table, scorer = pd.DataFrame(X, columns=["c", "a", "b"]), make_retrain_scorer(distance, n_references=2)
    by_name, of_arrays = (
        scorer(tiny_classifier(random_state=0).fit(rows[:40], y[:40]), rows[40:], y[40:]) for rows in (table, X)
    )
    assert by_name == of_arrays
