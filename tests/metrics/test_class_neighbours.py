import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sk_unlearn.metrics import neighbour_distance, retrain_distance
from tests._problems import classifier

rng = np.random.default_rng(0)
LINE = np.arange(10.0)[:, None]


def on_a_line(seed):
    X = rng.normal(size=(40, 1)) * 4
    return KNeighborsClassifier(5).fit(X, X[:, 0] + np.random.default_rng(seed).normal(size=40) > 4)


def test_by_hand():
    model, *others = map(on_a_line, range(4))
    found = neighbour_distance(model, others, [[3.1], [2.9]], LINE, n_neighbours=3, space="inputs")
    near = LINE[2:5]
    assert found.n_rows == 3
    assert found.distance == pytest.approx(np.mean([retrain_distance(model, each, near) for each in others]))
    for k, own in enumerate(found.reference_distances):
        rest = others[:k] + others[k + 1 :]
        assert own == pytest.approx(np.mean([retrain_distance(others[k], each, near) for each in rest]))
    assert found.ratio == pytest.approx(found.distance / np.mean(found.reference_distances))


def test_regressors():
    model, *others = (LinearRegression().fit(LINE, LINE[:, 0] + rng.normal(size=10)) for _ in range(3))
    found = neighbour_distance(model, others, [[8.9]], LINE, n_neighbours=1, space="inputs")
    expected = np.mean([retrain_distance(model, each, LINE[9:], "rms") for each in others])
    assert found.distance == pytest.approx(expected)


def test_classes_next_to_one_that_was_lost_in_the_outputs_alone(digits):
    stays = digits.y_test != digits.label
    erased, X = digits.X[digits.gone], digits.X_test[stays]
    told = neighbour_distance(digits.head_only, digits.retrained, erased, X)
    assert told.distance > 2 * max(told.reference_distances)
    assert told.n_rows < len(X) / 4
    # A retrained model may take a row that looks like a three for anything: most of them agree, and one need not.
    beside = [[each for each in digits.retrained if each is not one] for one in digits.retrained]
    pairs = zip(digits.retrained, beside, strict=True)
    assert np.median([neighbour_distance(one, others, erased, X).ratio for one, others in pairs]) < 1.5 < told.ratio


def test_features_are_those_of_the_models_behind_their_steps():
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    settings = {"module__n_features_in": 3, "module__n_outputs": 2, "max_epochs": 3}
    models = [classifier(random_state=seed, **settings).fit(X, y) for seed in range(3)]
    halved = [make_pipeline(FunctionTransformer(lambda X: X / 2), each) for each in models]
    plain = neighbour_distance(models[0], models[1:], X[:4], X[4:])
    assert neighbour_distance(halved[0], halved[1:], 2 * X[:4], 2 * X[4:]) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": []}, "references must hold at least 2 retrained models, got 0"),
        ({"space": "outputs"}, "space must be 'features' or 'inputs', got 'outputs'"),
        ({"X": [["secret"]] * 9}, "X must hold numbers, in one dense array or table.$"),
        ({"n_neighbours": 1.5}, "n_neighbours must be an int of at least 1, got 1.5"),
        ({"X_erased": np.zeros((2, 3))}, "X_erased has 3 columns and X 1; give rows of the same kind"),
        ({"n_neighbours": 11}, "n_neighbours must lie between 1 and the number of rows in X"),
        ({"X_erased": LINE[:0]}, "and X_erased hold at least one; got 3, 10 and 0 rows"),
    ],
)
def test_arguments(change, message):
    model = on_a_line(0)
    given = {"estimator": model, "references": [model] * 2, "X_erased": LINE[:1], "X": LINE, "space": "inputs"}
    with pytest.raises(ValueError, match=message):
        neighbour_distance(**given | change)
