"""Each composite, beside the same request made by hand on the estimators inside, in the coordinates they were given."""

import copy

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  the import makes them available
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.fixes import parse_version

import sk_unlearn
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.unlearners import CuReNU
from tests import _problems
from tests._problems import parameters

rng = np.random.default_rng(3)
n = 48
X = rng.normal(size=(n, 3)) * [1, 2, 0.5] + [0, 3, -1]
binary = np.where(X[:, 0] + 0.3 * rng.normal(size=n) > 0, "yes", "no")
three = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + 0.3 * rng.normal(size=n), [-0.4, 0.4])]
value = (X @ [1.0, -0.5, 2.0]) + 0.1 * rng.normal(size=n)
gone, stay = slice(0, 3), slice(3, None)
fast = {"max_epochs": 3, "batch_size": 16, "module__n_hidden": 3}


def net(seed=0, **settings):
    return _problems.classifier(CuReNU(max_steps=2), random_state=seed, lr=0.3, **(fast | settings))


def value_net(seed=0, **settings):
    return _problems.regressor(CuReNU(max_steps=2), random_state=seed, lr=0.05, **(fast | settings))


def forgotten_by_hand(model, requests):
    """A copy of a model, after requests to parts of it: from how a part is found to what its `forget` is given."""
    other = copy.deepcopy(model)
    for part, *request in requests:
        part(other).forget(*request)
    return other


def check(model, y, requests, *, on_other="raise", X=X, X_del=None, y_del=None, **options):
    """Forget the first rows, and compare every part in `requests` with what it makes of its request by itself."""
    by_hand = forgotten_by_hand(model, requests)
    X_del = X[gone] if X_del is None else X_del
    before = sk_unlearn.which_parts_know(model, X_del, y[gone] if y_del is None else y_del)
    summary = sk_unlearn.forget(model, X_del, y[gone] if y_del is None else y_del, on_other=on_other, **options)
    for part, *_ in requests:
        assert np.array_equal(parameters(part(model)), parameters(part(by_hand)))
        assert len(part(model).training_set_) == len(part(by_hand).training_set_)
    assert sum(part.report is not None for part in summary.parts) == len(requests)
    assert {part.path: part.n_known for part in summary.parts} == {k: v for k, v in before.items() if v is not None}
    assert sorted(other.path for other in summary.others) == sorted(k for k, v in before.items() if v is None)
    with pytest.raises(ValueError, match="No part of the model knows any"):
        sk_unlearn.forget(model, X_del, y[gone] if y_del is None else y_del, on_other=on_other, **options)
    return summary


def member(i, then=lambda part: part):
    return lambda model: then(model.estimators_[i])


# ------------------------------------------------------------------------------------------------------------ pipelines


def test_an_estimator_itself():
    summary = check(net().fit(X, binary), binary, [(lambda m: m, X[gone], binary[gone])])
    assert summary["model"].n_known == 3


def test_pipeline():
    model = make_pipeline(StandardScaler(), FunctionTransformer(), net()).fit(X, binary)
    request = (lambda m: m[-1], model[:-1].transform(X[gone]), binary[gone])
    summary = check(model, binary, [request], on_other="report")
    assert [other.path for other in summary.others] == ["steps['standardscaler']"]
    assert summary.others[0].outcome == "still contains the rows"


def test_pipeline_of_frames():
    frame = pd.DataFrame(X, columns=["u", "v", "w"])
    with sklearn.config_context(transform_output="pandas"):
        model = make_pipeline(StandardScaler(), net()).fit(frame, binary)
        request = (lambda m: m[-1], model[:-1].transform(frame[gone]), binary[gone])
        check(model, binary, [request], on_other="report", X=frame)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_that_a_step_rounds_otherwise_are_found(dtype):
    wide = torch.as_tensor(np.random.default_rng(0).normal(size=(200, 60)) + 5, dtype=dtype).numpy()
    y = (wide[:, 0] > 5).astype(int)
    model = make_pipeline(PCA(20), value_net(module__dtype=dtype)).fit(wide, y)
    # PCA fits and transforms in one go by other products than it transforms with.
    stored = model[-1].training_set_.X[7:8].copy()
    assert not np.array_equal(model[:-1].transform(wide[7:8]), stored)
    by_hand = forgotten_by_hand(model, [(lambda m: m[-1], stored, y[7:8])])
    summary = sk_unlearn.forget(model, wide[7:8], y[7:8], on_other="report")
    assert np.array_equal(parameters(model[-1]), parameters(by_hand[-1]))
    assert len(model[-1].training_set_) == 199
    assert (summary.parts[0].n_known, summary.parts[0].n_rounded) == (1, 1)
    assert "but for rounding" in summary.notes[0]


def test_rows_that_may_be_either_of_two_stored_ones_are_refused():
    model = make_pipeline(PCA(2), net()).fit(X, binary)
    stored = model[-1].training_set_.X[:2].copy()
    near = np.nextafter(stored[:1], np.inf, dtype=np.float32)
    nearer = np.vstack([np.nextafter(near, np.inf, dtype=np.float32), near, model[-1].training_set_.X[2:]])
    twice = make_pipeline(FunctionTransformer(lambda rows: rows), net()).fit(nearer, binary)
    before = parameters(twice[-1])
    with pytest.raises(ValueError, match="miss several different stored rows by rounding alone"):
        sk_unlearn.forget(twice, stored[:1])
    assert np.array_equal(parameters(twice[-1]), before)


def test_column_transformer_and_feature_union_with_nets_inside():
    def inner(seed):
        return StackingRegressor([("net", value_net(seed))], Ridge(), cv=2)

    columns = ColumnTransformer([("one", inner(0), [0, 1]), ("two", "passthrough", [2])])
    union = FeatureUnion([("three", inner(1)), ("four", "passthrough")])
    model = make_pipeline(columns, union, Ridge()).fit(X, value)
    one = model[0].transformers_[0][1].estimators_[0]
    requests = [
        (lambda m: m[0].transformers_[0][1].estimators_[0], X[gone, :2], value[gone]),
        (lambda m: m[1].transformer_list[0][1].estimators_[0], model[0].transform(X[gone]), value[gone]),
    ]
    summary = check(model, value, requests, on_other="report")
    assert one is model[0].transformers_[0][1].estimators_[0]
    assert {other.path for other in summary.others} == {
        "steps['columntransformer'].transformers_['one'].final_estimator_",
        "steps['featureunion'].transformer_list['three'].final_estimator_",
        "steps['ridge']",
    }


def test_transformed_target():
    model = TransformedTargetRegressor(value_net(), transformer=StandardScaler()).fit(X, value)
    y_del = model.transformer_.transform(value[gone, None])
    check(model, value, [(lambda m: m.regressor_, X[gone], y_del)], on_other="report")
    model = TransformedTargetRegressor(value_net(), func=np.cbrt, inverse_func=lambda y: y**3).fit(X, value)
    check(model, value, [(lambda m: m.regressor_, X[gone], np.cbrt(value[gone]))])


# ------------------------------------------------------------------------------------------------------------- searches


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(net(), {"estimator__lr": [0.1, 0.3]}, cv=2),
        RandomizedSearchCV(net(), {"estimator__lr": [0.1, 0.3]}, n_iter=1, cv=2, random_state=0),
        HalvingGridSearchCV(net(), {"estimator__lr": [0.1, 0.3]}, cv=2, random_state=0),
        ForgetSearchCV(net(), {"unlearner__max_steps": [1, 2]}, cv=2),
    ],
)
def test_searches(search):
    search = sklearn.base.clone(search).fit(X, binary)
    summary = check(search, binary, [(lambda m: m.best_estimator_, X[gone], binary[gone])])
    assert any(each.startswith("cv_results_: scores") for each in summary.left)


@pytest.mark.parametrize("kind", [FixedThresholdClassifier, TunedThresholdClassifierCV])
def test_thresholds(kind):
    settings = {"cv": 2, "thresholds": 3} if kind is TunedThresholdClassifierCV else {}
    model = kind(net(), **settings, pos_label="yes") if kind is FixedThresholdClassifier else kind(net(), **settings)
    model.fit(X, (binary == "yes").astype(int)) if kind is TunedThresholdClassifierCV else model.fit(X, binary)
    y = (binary == "yes").astype(int) if kind is TunedThresholdClassifierCV else binary
    check(model, y, [(lambda m: m.estimator_, X[gone], y[gone])])


def test_self_training():
    y = np.where(np.arange(n) % 4 == 3, -1, (binary == "yes").astype(int))
    model = SelfTrainingClassifier(net(), max_iter=1).fit(X, y)
    summary = check(model, y, [(lambda m: m.estimator_, X[gone], y[gone])], on_other="report")
    assert [other.path for other in summary.others] == ["transduction_"]


# ----------------------------------------------------------------------------------------------------- many estimators


def test_voting():
    model = VotingClassifier([("one", net(0)), ("two", net(1)), ("off", "drop")], weights=[2, 1, 1]).fit(X, three)
    codes = model.le_.transform(three[gone])
    check(model, three, [(member(0), X[gone], codes), (member(1), X[gone], codes)])
    assert model.named_estimators_["one"] is model.estimators_[0]
    model = VotingRegressor([("one", value_net(0)), ("two", value_net(1))]).fit(X, value)
    check(model, value, [(member(0), X[gone], value[gone]), (member(1), X[gone], value[gone])])


@pytest.mark.parametrize("bootstrap_features", [False, True])
def test_bagging(bootstrap_features):
    model = BaggingClassifier(
        net(), 3, max_features=2, max_samples=0.6, bootstrap_features=bootstrap_features, random_state=0
    ).fit(X, three)
    codes = np.searchsorted(model.classes_, three[gone])
    requests = [(member(i), X[gone][:, model.estimators_features_[i]], codes) for i in range(3)]
    check(model, three, requests)
    model = BaggingRegressor(value_net(), 2, random_state=0).fit(pd.DataFrame(X, columns=list("abc")), value)
    check(model, value, [(member(i), X[gone], value[gone]) for i in range(2)], X=pd.DataFrame(X, columns=list("abc")))


def test_members_that_never_saw_a_row_are_left():
    model = BaggingClassifier(make_pipeline(FunctionTransformer(), net()), 4, max_samples=0.5, random_state=0)
    model.fit(X, binary)
    drawn = [set(samples.tolist()) for samples in model.estimators_samples_]
    row = next(i for i in range(n) if 0 < sum(i in each for each in drawn) < 4)
    code = np.searchsorted(model.classes_, binary[row : row + 1])
    saw = [i for i in range(4) if row in drawn[i]]
    by_hand = forgotten_by_hand(model, [(member(i, lambda p: p[-1]), X[row : row + 1], code) for i in saw])
    summary = sk_unlearn.forget(model, X[row : row + 1], binary[row : row + 1])
    for i in range(4):
        assert np.array_equal(parameters(model.estimators_[i][-1]), parameters(by_hand.estimators_[i][-1]))
        part = summary[f"estimators_[{i}].steps['unlearnableclassifier']"]
        assert (part.n_known, part.report is None) == ((1, False) if i in saw else (0, True))
    none = next((i for i in range(n) if not any(i in each for each in drawn)), None)
    if none is not None:
        with pytest.raises(ValueError, match="that no member of an ensemble has drawn"):
            sk_unlearn.forget(model, X[none : none + 1])


def test_stacking():
    model = StackingClassifier([("one", net(0)), ("two", net(1))], LogisticRegression(), cv=2).fit(X, three)
    codes = np.searchsorted(model.classes_, three[gone])
    summary = check(model, three, [(member(i), X[gone], codes) for i in range(2)], on_other="report")
    assert [other.path for other in summary.others] == ["final_estimator_"]


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("final", [net(5), GridSearchCV(net(5), {"estimator__lr": [0.1]}, cv=2)])
def test_a_final_estimator_that_can_forget_forgets_its_rows(final, passthrough):
    model = StackingClassifier([("one", net(0)), ("two", Ridge())][:1], final, cv=2, passthrough=passthrough)
    model.fit(X, three)
    codes = np.searchsorted(model.classes_, three[gone])

    def top(m):
        return getattr(m.final_estimator_, "best_estimator_", m.final_estimator_)

    # The rows of the final estimator stand in the order of the others.
    its_rows = top(model).training_set_.X[gone].copy()
    summary = check(model, three, [(member(0), X[gone], codes), (top, its_rows, codes)])
    assert any("came from models of folds" in each for each in summary.left)
    # Again: the rows of both have moved up together.
    its_rows = top(model).training_set_.X[1:2].copy()
    by_hand = forgotten_by_hand(model, [(top, its_rows)])
    sk_unlearn.forget(model, X[4:5], three[4:5])
    assert np.array_equal(parameters(top(model)), parameters(top(by_hand)))


def test_rows_of_a_final_estimator_keep_their_places_over_many_requests():
    model = StackingRegressor([("one", value_net(0)), ("two", value_net(1))], value_net(2), cv=2).fit(X, value)
    top = model.final_estimator_.training_set_
    rows, targets = top.X.copy(), top.y.copy()
    stay = np.arange(n)
    draw = np.random.default_rng(7)
    while len(stay) > 12:
        some = draw.choice(stay, 6, replace=False)
        # Members know different rows now and then.
        model.estimators_[1].forget(X[some[:1]], value[some[:1]])
        sk_unlearn.forget(model, X[some], value[some])
        stay = np.setdiff1d(stay, some)
        assert np.array_equal(top.X, rows[stay])
        assert np.array_equal(top.y, targets[stay])


def test_stacking_of_several_targets():
    both = np.column_stack([binary == "yes", three == "a"]).astype(int)
    model = StackingClassifier([("one", MultiOutputClassifier(net()))], MultiOutputClassifier(net(1)), cv=2)
    model.fit(X, both)
    its_rows = [part.training_set_.X[gone].copy() for part in model.final_estimator_.estimators_]
    requests = [(lambda m, i=i: m.estimators_[0].estimators_[i], X[gone], both[gone, i]) for i in range(2)]
    tops = [(lambda m, i=i: m.final_estimator_.estimators_[i], its_rows[i], both[gone, i]) for i in range(2)]
    check(model, both, [*requests, *tops])


def test_a_final_estimator_whose_rows_cannot_be_told_is_listed():
    model = StackingClassifier([("one", net(0)), ("two", LogisticRegression())], net(5), cv=2).fit(X, three)
    sk_unlearn.forget(model.estimators_[0], X[9:10])  # behind the back of the stack: places no longer agree
    with pytest.raises(sk_unlearn.exceptions.PartsCannotForget, match="out-of-fold predictions") as caught:
        sk_unlearn.forget(model, X[gone], three[gone])
    assert caught.value.parts == ("estimators_[1]", "final_estimator_")


def test_stacking_of_fitted_estimators():
    y = (binary == "yes").astype(int)
    bases = [("one", net(0).fit(X, y)), ("two", net(1).fit(X, y))]
    model = StackingClassifier(bases, net(5), cv="prefit").fit(X, y)
    its_rows = model.final_estimator_.training_set_.X[gone].copy()
    requests = [(member(i), X[gone], y[gone]) for i in range(2)]
    check(model, y, [*requests, (lambda m: m.final_estimator_, its_rows, y[gone])])
    other = StackingClassifier([("one", Ridge().fit(X, y))], net(5), cv="prefit", stack_method="predict").fit(X, y)
    request = (lambda m: m.final_estimator_, other.transform(X)[gone], y[gone])
    summary = check(other, y, [request], on_other="report")
    assert [each.path for each in summary.others] == ["estimators_[0]"]


@pytest.mark.parametrize(("ensemble", "method"), [(True, "sigmoid"), (False, "isotonic"), (True, "temperature")])
def test_calibration(ensemble, method):
    if method == "temperature" and parse_version(sklearn.__version__) < parse_version("1.8"):
        pytest.skip("a method of later versions")
    model = CalibratedClassifierCV(net(), method=method, cv=3, ensemble=ensemble).fit(X, binary)
    y = (binary == "yes").astype(int) if method == "temperature" else binary
    inner = [pair.estimator for pair in model.calibrated_classifiers_]
    requests = []
    for i, est in enumerate(inner):
        known = est.training_set_.match(X[gone].astype(np.float32)).found
        if known.any():
            requests.append((lambda m, i=i: m.calibrated_classifiers_[i].estimator, X[gone][known], y[gone][known]))
    summary = check(model, binary, requests, on_other="report")
    assert [other.path for other in summary.others] == [
        f"calibrated_classifiers_[{i}].calibrators" for i in range(len(inner))
    ]
    assert sum(part.n_known for part in summary.parts) == (6 if ensemble else 3)


def test_one_vs_rest():
    model = OneVsRestClassifier(net()).fit(X, three)
    columns = model.label_binarizer_.transform(three[gone]).toarray()
    check(model, three, [(member(i), X[gone], columns[:, i]) for i in range(3)])
    both = np.column_stack([three == "a", binary == "yes"]).astype(int)
    check(OneVsRestClassifier(net()).fit(X, both), both, [(member(i), X[gone], both[gone, i]) for i in range(2)])
    check(
        OneVsRestClassifier(net()).fit(X, binary), binary, [(member(0), X[gone], (binary == "yes")[gone].astype(int))]
    )


def test_one_vs_one():
    model = OneVsOneClassifier(net()).fit(X, three)
    codes = np.searchsorted(model.classes_, three[gone])
    requests = []
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        pair = np.isin(codes, [i, j])
        if pair.any():
            requests.append((member(k), X[gone][pair], (codes[pair] == j).astype(int)))
    summary = check(model, three, requests)
    assert sum(part.n_known for part in summary.parts) == 6


def test_output_code():
    model = OutputCodeClassifier(net(), code_size=1.5, random_state=2).fit(X, three)
    codes = model.code_book_[np.searchsorted(model.classes_, three[gone])].astype(int)
    mixed = [i for i, part in enumerate(model.estimators_) if hasattr(part, "training_set_")]
    check(model, three, [(member(i), X[gone], codes[:, i]) for i in mixed])


def test_multi_output():
    both = np.column_stack([three, binary])
    model = MultiOutputClassifier(net()).fit(X, both)
    check(model, both, [(member(i), X[gone], both[gone, i]) for i in range(2)])
    values = np.column_stack([value, X[:, 0] ** 2])
    model = MultiOutputRegressor(value_net()).fit(X, values)
    check(model, values, [(member(i), X[gone], values[gone, i]) for i in range(2)])


@pytest.mark.parametrize("order", [None, [1, 0]])
@pytest.mark.parametrize("cv", [None, 2])
def test_chains(order, cv):
    both = np.column_stack([binary == "yes", three == "a"]).astype(int)
    first, second = order or [0, 1]
    for model, y in [
        (ClassifierChain(net(), order=order, cv=cv), both),
        (RegressorChain(value_net(), order=order, cv=cv), np.column_stack([value, X[:, 0] ** 2])),
    ]:
        model.fit(X, y)
        appended = model.estimators_[1].training_set_.X[gone].copy()
        if cv is None:
            appended = np.column_stack([X[gone], y[gone, first]])
        check(model, y, [(member(0), X[gone], y[gone, first]), (member(1), appended, y[gone, second])])


def test_chain_without_targets_follows_its_first_link():
    both = np.column_stack([binary == "yes", three == "a"]).astype(int)
    model = ClassifierChain(net()).fit(X, both)
    summary = sk_unlearn.forget(model, X[gone])
    assert [part.n_known for part in summary.parts] == [3, 3]


# --------------------------------------------------------------------------------------------------------------- nested


def test_voting_of_searches_of_pipelines():
    def search(seed):
        return GridSearchCV(
            make_pipeline(FunctionTransformer(np.tanh), net(seed)), {"unlearnableclassifier__verbose": [0]}, cv=2
        )

    model = VotingClassifier(
        [("one", search(0)), ("two", search(1)), ("three", FrozenEstimator(net(2).fit(X, binary)))]
    )
    model.fit(X, binary)
    codes = model.le_.transform(binary[gone])
    requests = [(member(i, lambda p: p.best_estimator_[-1]), np.tanh(X[gone]), codes) for i in range(2)]
    # This one was fitted before, on the labels themselves.
    requests.append((member(2, lambda p: p.estimator), X[gone], binary[gone]))
    summary = check(model, binary, requests)
    assert "estimators_[0].best_estimator_.steps['unlearnableclassifier']" in [part.path for part in summary.parts]


def test_bagging_of_voting_with_a_classical_member_refits_it_on_the_rows_of_its_sibling():
    inner = VotingClassifier([("net", net(module__dtype=None)), ("other", LogisticRegression())])
    model = BaggingClassifier(inner, 2, random_state=0).fit(X, binary)
    with pytest.raises(sk_unlearn.exceptions.PartsCannotForget, match="float32"):
        sk_unlearn.forget(model, X[gone], binary[gone], on_other="refit")


def test_fitted_templates_inside_forget_too():
    y = (binary == "yes").astype(int)
    model = GridSearchCV(net().fit(X, y), {"estimator__lr": [0.1]}, cv=2).fit(X, y)
    requests = [(lambda m: m.best_estimator_, X[gone], y[gone]), (lambda m: m.estimator, X[gone], y[gone])]
    check(model, y, requests)


def test_the_same_object_twice_forgets_once():
    y = (binary == "yes").astype(int)
    shared = FrozenEstimator(net().fit(X, y))
    model = VotingClassifier([("one", shared), ("two", shared)]).fit(X, y)
    summary = check(model, y, [(member(0, lambda p: p.estimator), X[gone], y[gone])])
    assert len(summary.parts) == 1


def test_identifiers_reach_every_part_that_was_given_them():
    with sklearn.config_context(enable_metadata_routing=True):
        members = [(str(i), net(i).set_fit_request(sample_id=True)) for i in range(2)]
        model = Pipeline([("scale", StandardScaler()), ("vote", VotingClassifier(members))])
        model.fit(X, binary, sample_id=np.arange(n) // 2)
        by_hand = copy.deepcopy(model)
        for part in by_hand[-1].estimators_:
            part.forget(sample_id=[0, 7])
        assert sk_unlearn.which_parts_know(model, sample_id=[0, 7]) == {
            "steps['scale']": None, "steps['vote'].estimators_[0]": 2, "steps['vote'].estimators_[1]": 2,
        }  # fmt: skip
        summary = sk_unlearn.forget(model, sample_id=[0, 7], on_other="report")
        for ours, theirs in zip(model[-1].estimators_, by_hand[-1].estimators_, strict=True):
            assert np.array_equal(parameters(ours), parameters(theirs))
            assert len(ours.training_set_) == n - 4
        assert summary.n_asked == 2
        with pytest.raises(ValueError, match="1 of 2 identifiers are unknown to every part"):
            sk_unlearn.forget(model, sample_id=[0, 8], on_other="report")
        with pytest.raises(ValueError, match="sample_id: 1 of 2 ids are unknown to every part of the model"):
            sk_unlearn.forget(model, X[[2, 3]], sample_id=[1, 99], on_other="report")
        sk_unlearn.forget(model, X[[2, 3]], sample_id=[1], on_other="report")
        assert len(model[-1].estimators_[0].training_set_) == n - 6
