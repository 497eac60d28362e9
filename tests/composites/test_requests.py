"""A request to a whole model: what is listed, refitted or refused, and that it happens in all parts or in none."""

import copy
import pickle
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import has_fit_parameter

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.exceptions import PartsCannotForget
from sk_unlearn.pipeline import make_pipeline as our_pipeline
from sk_unlearn.unlearners import CuReNU
from tests import _problems
from tests._problems import parameters

n = 40
rng = np.random.default_rng(4)
X = rng.normal(size=(n, 3))
y = np.where(X[:, 0] + 0.3 * rng.normal(size=n) > 0, "yes", "no")
value = X @ [1.0, -0.5, 2.0] + 0.1 * rng.normal(size=n)
double = {"module__dtype": torch.float64}


def net(seed=0, **settings):
    fast = {"max_epochs": 3, "batch_size": 16, "module__n_hidden": 3, "lr": 0.3}
    return _problems.classifier(CuReNU(max_steps=2), random_state=seed, **(fast | settings))


def value_net(seed=0, **settings):
    fast = {"max_epochs": 3, "batch_size": 16, "module__n_hidden": 3, "lr": 0.05}
    return _problems.regressor(CuReNU(max_steps=2), random_state=seed, **(fast | settings))


def mixed(**settings):
    """A net, a logistic regression and a forest that vote."""
    forest = RandomForestClassifier(5, random_state=0)
    return VotingClassifier([("net", net(**settings)), ("linear", LogisticRegression()), ("forest", forest)])


def state_of(model):
    """All numbers of a voting ensemble of a net and others, and who its members are."""
    return parameters(model.estimators_[0]), len(model.estimators_[0].training_set_), model.estimators_[1:]


def unchanged(model, before):
    w, n_rows, others = before
    return (
        np.array_equal(parameters(model.estimators_[0]), w)
        and len(model.estimators_[0].training_set_) == n_rows
        and all(one is other for one, other in zip(model.estimators_[1:], others, strict=True))
    )


# ---------------------------------------------------------------------------------------------------------- other parts


def test_parts_that_cannot_forget_are_listed_before_anything_happens():
    model = mixed().fit(X, y)
    before = state_of(model)
    with pytest.raises(PartsCannotForget, match=r"estimators_\[1\]: LogisticRegression; estimators_\[2\]: Random") as e:
        sk_unlearn.forget(model, X[:2], y[:2])
    assert e.value.parts == ("estimators_[1]", "estimators_[2]")
    assert pickle.loads(pickle.dumps(e.value)).parts == e.value.parts
    assert unchanged(model, before)
    assert not hasattr(model.estimators_[0], "unlearning_report_")


def test_reported_parts_stay_and_are_said_to_contain_the_rows():
    model = mixed().fit(X, y)
    before = state_of(model)
    summary = sk_unlearn.forget(model, X[:2], y[:2], on_other="report")
    assert model.estimators_[1] is before[2][0]
    assert [(o.path, o.kind, o.outcome) for o in summary.others] == [
        ("estimators_[1]", "LogisticRegression", "still contains the rows"),
        ("estimators_[2]", "RandomForestClassifier", "still contains the rows"),
    ]
    assert "estimators_[1]: LogisticRegression, still contains the rows" in repr(summary)
    assert "2 erased" in repr(summary)
    told = summary.to_dict()
    assert told["parts"][0]["report"]["n_erased"] == 2
    assert summary["estimators_[0]"].report is model.estimators_[0].unlearning_report_
    with pytest.raises(KeyError):
        summary["estimators_[7]"]


@pytest.mark.parametrize("given", [True, False])
def test_refitted_parts_equal_a_fresh_fit_on_the_rows_that_stay(given):
    model = mixed(**double).fit(X, y)
    fresh = clone(model).fit(X[2:], y[2:])
    retained = (X[2:], y[2:]) if given else None
    summary = sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=retained)
    assert [other.outcome for other in summary.others] == ["refitted", "refitted"]
    for i in (1, 2):
        assert np.array_equal(model.estimators_[i].predict_proba(X), fresh.estimators_[i].predict_proba(X))
    assert model.named_estimators_["linear"] is model.estimators_[1]
    # And once more: the sibling's rows are those that stayed.
    fresh = clone(model).fit(X[4:], y[4:])
    sk_unlearn.forget(model, X[2:4], y[2:4], on_other="refit", retained=(X[4:], y[4:]) if given else None)
    assert np.array_equal(model.estimators_[1].coef_, fresh.estimators_[1].coef_)


def test_refit_with_weights_and_names_of_columns():
    frame, weight = pd.DataFrame(X, columns=["u", "v", "w"]), np.arange(1, n + 1.0)
    model = VotingRegressor([("net", value_net(**double)), ("ridge", Ridge())]).fit(frame, value, sample_weight=weight)
    fresh = Ridge().fit(frame[2:], value[2:], sample_weight=weight[2:])
    given = copy.deepcopy(model)
    sk_unlearn.forget(model, frame[:2], on_other="refit")
    sk_unlearn.forget(given, frame[:2], on_other="refit", retained=(frame[2:], value[2:], weight[2:]))
    for each in (model, given):
        assert np.array_equal(each.estimators_[1].coef_, fresh.coef_)
        assert list(each.estimators_[1].feature_names_in_) == ["u", "v", "w"]


def test_rows_that_a_sibling_has_rounded_are_not_refitted_on():
    model = mixed().fit(X, y)
    before = state_of(model)
    with pytest.raises(PartsCannotForget, match=r"retained=\(X, y\); estimators_\[0\] stores them as float32"):
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit")
    assert unchanged(model, before)


@pytest.mark.parametrize("given", [True, False])
def test_a_final_estimator_is_refitted_as_in_a_fresh_stack(given):
    model = StackingClassifier([("net", net(**double)), ("other", LogisticRegression())], LogisticRegression(), cv=2)
    fresh = clone(model.fit(X, y)).fit(X[2:], y[2:])
    retained = (X[2:], y[2:]) if given else None
    sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=retained)
    assert np.array_equal(model.final_estimator_.coef_, fresh.final_estimator_.coef_)
    assert np.array_equal(model.estimators_[1].coef_, fresh.estimators_[1].coef_)
    assert model.predict(X).shape == (n,)


def test_parts_that_were_fitted_before_are_not_refitted():
    bases = [("net", net(**double).fit(X, y)), ("other", LogisticRegression().fit(X, y))]
    model = StackingClassifier(bases, LogisticRegression(), cv="prefit").fit(X, y)
    with pytest.raises(PartsCannotForget, match=r"fitted before it came here.*; final_estimator_: .*its inputs") as e:
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(X[2:], y[2:]))
    assert e.value.parts == ("estimators_[1]", "final_estimator_")
    assert len(bases[0][1].training_set_) == n


def test_calibrators_are_refitted_as_in_a_fresh_fit_where_one_estimator_learnt_all_rows():
    model = CalibratedClassifierCV(net(**double), cv=2, ensemble=False).fit(X, y)
    fresh = clone(model).fit(X[2:], y[2:])
    sk_unlearn.forget(model, X[:2], y[:2], on_other="refit")
    ours, theirs = (each.calibrated_classifiers_[0].calibrators[0] for each in (model, fresh))
    assert (ours.a_, ours.b_) == (theirs.a_, theirs.b_)
    model = CalibratedClassifierCV(net(**double), cv=2).fit(X, y)
    with pytest.raises(PartsCannotForget, match="moves when that forgets"):
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(X[2:], y[2:]))


def test_members_of_a_bagging_are_refitted_on_the_draws_of_their_siblings():
    inner = VotingClassifier([("net", net(**double)), ("other", LogisticRegression())])
    model = BaggingClassifier(inner, 2, random_state=0).fit(X, y)
    codes, drawn = np.searchsorted(model.classes_, y), model.estimators_samples_
    sk_unlearn.forget(model, X[:2], y[:2], on_other="refit")
    for i in range(2):
        stay = drawn[i][drawn[i] > 1]
        fresh = LogisticRegression().fit(X[stay], codes[stay])
        if has_fit_parameter(inner, "sample_weight"):  # scikit-learn < 1.8 draws by weights then
            fresh.fit(X[2:], codes[2:], sample_weight=np.bincount(stay, minlength=n)[2:])
        assert np.array_equal(model.estimators_[i].estimators_[1].coef_, fresh.coef_)


def test_a_part_without_stored_rows_is_another_part():
    model = VotingClassifier([("one", net()), ("two", net(1, keep_training_set=False))]).fit(X, y)
    with pytest.raises(PartsCannotForget, match=r"estimators_\[1\]: UnlearnableClassifier \(keep_training_set=False"):
        sk_unlearn.forget(model, X[:2], y[:2])
    fresh = clone(model.estimators_[1]).fit(X[2:], model.le_.transform(y[2:]))
    sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(X[2:], y[2:]))
    assert np.array_equal(parameters(model.estimators_[1]), parameters(fresh))


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), net()),
    ],
)
def test_steps_before_a_net_are_not_refitted(model):
    model = clone(model).fit(X, y)
    with pytest.raises(PartsCannotForget, match=r"use sk_unlearn.pipeline.Pipeline"):
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(X[2:], y[2:]))
    assert len(model[-1].training_set_) == n


@pytest.mark.parametrize(
    ("members", "weight", "message"),
    [
        (
            (net(), KNeighborsClassifier(3)),
            (np.ones(n - 2),),
            "its fit takes no sample_weight, and the retained rows have",
        ),
        (
            (our_pipeline(StandardScaler(), net(), keep_raw=False), LogisticRegression()),
            None,
            r"pass retained=\(X, y\)",
        ),
    ],
    ids=["weights", "rows"],
)
def test_parts_that_cannot_be_fitted_again_with_what_there_is_say_why(members, weight, message):
    model = VotingClassifier([(str(i), clone(member)) for i, member in enumerate(members)]).fit(X, y)
    retained = None if weight is None else (X[2:], y[2:], *weight)
    with pytest.raises(PartsCannotForget, match=message):
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=retained)


def test_retained_rows_must_not_hold_an_erased_one():
    model = mixed().fit(X, y)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"retained holds 1 of the rows to erase \(the first at index 0\)"):
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(X[1:], y[1:]))
    assert unchanged(model, before)
    # An equal row of another person stays.
    twice, labels = np.vstack([X, X[:1]]), np.append(y, y[0])
    model = VotingClassifier([("net", net()), ("linear", LogisticRegression())])
    codes = np.unique(labels, return_inverse=True)[1]
    model.fit(twice, labels)
    model.estimators_[0] = clone(model.estimators_[0]).fit(twice, codes, sample_id=np.arange(n + 1))
    summary = sk_unlearn.forget(model, sample_id=[0], on_other="refit", retained=(twice[1:], labels[1:]))
    assert summary.parts[0].n_known == 1
    assert len(model.estimators_[0].training_set_) == n


# ------------------------------------------------------------------------------------------------------- all or nothing


class Fails(LogisticRegression):
    """One that fits once."""

    def fit(self, X, y, sample_weight=None):
        if len(X) < n:
            raise RuntimeError("no")
        return super().fit(X, y, sample_weight)


class Quotes(LogisticRegression):
    """One whose error quotes a row."""

    def fit(self, X, y, sample_weight=None):
        if len(X) < n:
            raise ValueError(f"bad row {X[0]}")
        return super().fit(X, y, sample_weight)


def test_nothing_changes_if_the_last_part_fails():
    three = VotingClassifier([("one", net(0)), ("two", net(1)), ("three", net(2))]).fit(X, y)
    small = copy.deepcopy(three)
    # The last one knows two rows, both of which are to go.
    small.estimators_[2] = clone(small.estimators_[2]).fit(X[:2], [0, 1])
    before = [parameters(part) for part in small.estimators_]
    with pytest.raises(ValueError, match=r"^estimators_\[2\]: The request covers all 2 rows"):
        sk_unlearn.forget(small, X[:2])
    for part, w in zip(small.estimators_, before, strict=True):
        assert np.array_equal(parameters(part), w)
        assert not hasattr(part, "unlearning_report_")
    assert [len(part.training_set_) for part in small.estimators_] == [n, n, 2]


@pytest.mark.parametrize(("kind", "error"), [(Fails, RuntimeError), (Quotes, ValueError)])
def test_nothing_changes_if_the_last_refit_fails(kind, error):
    model = VotingClassifier([("net", net(**double)), ("good", LogisticRegression()), ("bad", kind())]).fit(X, y)
    before = state_of(model)
    with pytest.raises(error) as caught:
        sk_unlearn.forget(model, X[:2], y[:2], on_other="refit")
    assert unchanged(model, before)
    if error is ValueError:
        assert "estimators_[2]: its fit on the rows that stay failed (ValueError)" in str(caught.value)
        assert caught.value.__context__ is None
    sk_unlearn.forget(model, X[:2], y[:2], on_other="report")


def test_two_threads_take_turns():
    model = mixed(**double).fit(X, y)
    threads = [
        threading.Thread(target=sk_unlearn.forget, args=(model, X[i : i + 1]), kwargs={"on_other": "refit"})
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = clone(model).fit(X[3:], y[3:])
    assert np.array_equal(model.estimators_[1].coef_, fresh.estimators_[1].coef_)
    assert len(model.estimators_[0].training_set_) == n - 3


def test_no_erased_value_is_left_in_a_pickle():
    X = np.random.default_rng(1).normal(size=(n, 3)).astype(np.float32)
    model = StackingClassifier([("one", net(0)), ("two", net(1))], net(2), cv=2).fit(X, y)
    model = VotingClassifier([("stack", model), ("search", GridSearchCV(net(3), {"verbose": [0]}, cv=2))]).fit(X, y)
    erased = [value.tobytes() for value in X[5]]
    assert all(value in pickle.dumps(model) for value in erased)
    sk_unlearn.forget(model, X[5:6], y[5:6])
    assert not any(value in pickle.dumps(model) for value in erased)


# -------------------------------------------------------------------------------------------------------- what is known


def test_which_parts_know():
    model = make_pipeline(StandardScaler(), mixed()).fit(X, y)
    before = pickle.dumps(model)
    scaled = "steps['votingclassifier']"
    rows = np.vstack([X[:3], X[:1] + 100])
    assert sk_unlearn.which_parts_know(model, rows) == {
        "steps['standardscaler']": None,
        f"{scaled}.estimators_[0]": 3,
        f"{scaled}.estimators_[1]": None,
        f"{scaled}.estimators_[2]": None,
    }
    other = np.where(y[:3] == "yes", "no", "yes")
    assert sk_unlearn.which_parts_know(model, X[:3], other)[f"{scaled}.estimators_[0]"] == 0
    assert sk_unlearn.which_parts_know(model, sample_id=["a"])[f"{scaled}.estimators_[0]"] is None
    assert len(pickle.dumps(model)) == len(before)


def test_unknown_rows():
    model = VotingClassifier([("one", net(0)), ("two", net(1))]).fit(X, y)
    with pytest.raises(ValueError, match="No part of the model knows any of the 2 rows of X_del"):
        sk_unlearn.forget(model, X[:2] + 1)
    with pytest.raises(ValueError, match=r"1 of 3 rows of X_del are unknown to every part .* at index 1\)"):
        sk_unlearn.forget(model, np.vstack([X[0], X[0] + 1, X[1]]))
    with pytest.raises(ValueError, match="No part of the model knows any of the 1 rows"):
        sk_unlearn.forget(model, X[:1], ["maybe"])
    with pytest.raises(
        ValueError, match=r"No part of the model can tell .*\(estimators_\[0\]: no identifiers were given"
    ):
        sk_unlearn.forget(model, sample_id=[1])
    # Known to one part only.
    model.estimators_[1].forget(X[:1])
    summary = sk_unlearn.forget(model, X[:2])
    assert [part.n_known for part in summary.parts] == [2, 1]


def test_a_model_in_which_nothing_can_forget():
    with pytest.raises(ValueError, match="No part of the model is fitted and can forget"):
        sk_unlearn.forget(LogisticRegression().fit(X, y), X[:1])
    with pytest.raises(NotFittedError):
        sk_unlearn.forget(mixed(), X[:1])


def test_samplers_before_a_net_are_named():
    imblearn = pytest.importorskip("imblearn.pipeline")
    from imblearn.under_sampling import RandomUnderSampler

    model = imblearn.make_pipeline(RandomUnderSampler(random_state=0), net()).fit(X, y)
    kept = int(model[0].sample_indices_[0])
    with pytest.raises(PartsCannotForget, match=r"RandomUnderSampler \(rows that it made from the erased ones"):
        sk_unlearn.forget(model, X[kept : kept + 1])
    assert sk_unlearn.which_parts_know(model, X[kept : kept + 1])["steps['unlearnableclassifier']"] == 1


def test_a_cache_of_a_pipeline_is_named(tmp_path):
    model = make_pipeline(StandardScaler(), net(), memory=str(tmp_path)).fit(X, y)
    summary = sk_unlearn.forget(model, X[:1], on_other="report")
    assert summary.left == ["memory: transformed rows and fitted steps, until it is cleared"]


class Wrapper(ClassifierMixin, BaseEstimator):
    """A composite of somebody else's."""

    def __init__(self, inner=None):
        self.inner = inner

    def fit(self, X, y):
        self.models_ = {"a customer": [clone(self.inner).fit(X, y)]}
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.models_["a customer"][0].predict(X)


def test_unknown_composites_are_refused_by_path():
    model = VotingClassifier([("one", net(0)), ("two", Wrapper(net(1)))]).fit(X, y)
    message = r"estimators_\[1\]\.models_\[\.\.\.\]\[0\] can forget, but how estimators_\[1\], a Wrapper, hands"
    for ask in (sk_unlearn.forget, sk_unlearn.which_parts_know):
        with pytest.raises(ValueError, match=message):
            ask(model, X[:1])
    boosted = AdaBoostClassifier(net(), n_estimators=1).fit(X, y)
    with pytest.raises(ValueError, match=r"estimators_\[0\] can forget, but how the model, a AdaBoostClassifier"):
        sk_unlearn.forget(boosted, X[:1])
    # Nothing in there can forget: it is another part.
    with pytest.raises(PartsCannotForget, match="Wrapper"):
        sk_unlearn.forget(VotingClassifier([("a", net()), ("b", Wrapper(Ridge()))]).fit(X, y == "yes"), X[:1])


class Drafts(ClassifierMixin, BaseEstimator):
    """An object that carries out requests by itself, as pipelines of this package do."""

    def fit(self, X, y):
        self.inner_ = net().fit(X * 2, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(X * 2)

    def _known_rows(self, X, y, sample_id):
        return self.inner_.training_set_.match(np.float32(X * 2)).found, None

    def _drafted_deletion(self, X_del, y_del, sample_id):
        return self.inner_._drafted_deletion(X_del * 2, y_del, sample_id)

    def _retained_rows(self, X_del, y_del, sample_id):
        return X[2:], np.searchsorted(["no", "yes"], y[2:])


def test_objects_that_draft_requests_by_themselves():
    model = VotingClassifier([("own", Drafts()), ("linear", LogisticRegression())]).fit(X, y)
    by_hand = copy.deepcopy(model.estimators_[0].inner_).forget(X[:2] * 2, model.le_.transform(y[:2]))
    assert sk_unlearn.which_parts_know(model, X[:2], y[:2]) == {"estimators_[0]": 2, "estimators_[1]": None}
    summary = sk_unlearn.forget(model, X[:2], y[:2], on_other="refit")
    assert np.array_equal(parameters(model.estimators_[0].inner_), parameters(by_hand))
    assert summary["estimators_[0]"].kind == "Drafts"
    fresh = LogisticRegression().fit(X[2:], model.le_.transform(y[2:]))
    assert np.array_equal(model.estimators_[1].coef_, fresh.coef_)


# ------------------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None,), {}, "Name rows by X_del or by sample_id"),
        ((None, y[:1]), {"sample_id": [0]}, "y_del narrows X_del, which is None"),
        ((X[:0],), {}, "X_del is empty"),
        ((X[:2], y[:1]), {}, "y_del has 1 rows but belongs to 2"),
        ((X[:1],), {"on_other": "ignore"}, "on_other must be one of"),
        ((X[:1],), {"retained": (X, y)}, "retained is what on_other='refit' fits"),
        ((X[:1],), {"on_other": "refit", "retained": X}, r"retained must be \(X, y\) or"),
        ((X[:1],), {"on_other": "refit", "retained": (X, y[:3])}, "retained must hold arrays of one length"),
        ((X[:1, :2],), {}, r"^estimators_\[0\]: "),
        ((), {"sample_id": []}, "sample_id is empty"),
    ],
)
def test_arguments(arguments, options, message):
    model = VotingClassifier([("one", net(0)), ("two", net(1))]).fit(X, y)
    with pytest.raises(ValueError, match=message):
        sk_unlearn.forget(model, *arguments, **options)


def test_errors_of_steps_quote_no_row():
    names = np.array([["red"], ["blue"]] * 10)
    model = make_pipeline(OneHotEncoder(sparse_output=False), net()).fit(names, y[:20])
    with pytest.raises(ValueError, match=r"steps\['unlearnableclassifier'\]: rows cannot be brought there") as caught:
        sk_unlearn.forget(model, [["secret"]], on_other="report")
    assert caught.value.__context__ is None
    assert sk_unlearn.forget(model, names[:1], y[:1], on_other="report").parts[0].n_known == 1


def test_frames_of_mixed_columns():
    frame = pd.DataFrame({"colour": ["red", "blue"] * (n // 2), "size": X[:, 0], "age": X[:, 1]})
    columns = ColumnTransformer([("one", OneHotEncoder(), ["colour"]), ("rest", StandardScaler(), ["size", "age"])])
    model = make_pipeline(columns, VotingClassifier([("one", net(0)), ("two", net(1))])).fit(frame, y)
    # In another order of columns.
    summary = sk_unlearn.forget(model, frame[["age", "size", "colour"]][3:5], y[3:5], on_other="report")
    assert [part.n_known for part in summary.parts] == [2, 2]
    assert [other.kind for other in summary.others] == ["ColumnTransformer"]


def test_steps_without_memory_are_no_parts():
    inner = FeatureUnion([("tanh", FunctionTransformer(np.tanh)), ("rows", Normalizer())])
    columns = ColumnTransformer([("one", make_pipeline(inner, "passthrough"), [0, 1]), ("two", "drop", [2])])
    model = make_pipeline(columns, net()).fit(X, y)
    assert sk_unlearn.which_parts_know(model, X[:2]) == {"steps['unlearnableclassifier']": 2}
    assert sk_unlearn.forget(model, X[:2]).others == []


def test_polars():
    frame = pytest.importorskip("polars").DataFrame({"u": X[:, 0], "v": X[:, 1]})
    model = VotingClassifier([("one", net(0)), ("search", GridSearchCV(net(1), {"verbose": [0]}, cv=2))]).fit(frame, y)
    summary = sk_unlearn.forget(model, frame[3:5], y[3:5])
    assert [part.n_known for part in summary.parts] == [2, 2]


def test_lists_and_sparse_rows():
    model = VotingRegressor([("one", value_net(0)), ("two", value_net(1))]).fit(X, value)
    sk_unlearn.forget(model, X[:2].tolist(), value[:2].tolist())
    assert len(model.estimators_[0].training_set_) == n - 2
    sk_unlearn.forget(model, sparse.csr_array(X[2:4]), value[2:4])
    assert [len(each.training_set_) for each in model.estimators_] == [n - 4, n - 4]


def test_the_estimator_itself():
    one = UnlearnableClassifier(random_state=0, unlearner=CuReNU(max_steps=1)).fit(X, y)
    other = copy.deepcopy(one)
    one.forget(X[:2], y[:2])
    sk_unlearn.forget(other, X[:2], y[:2])
    assert np.array_equal(parameters(one), parameters(other))
