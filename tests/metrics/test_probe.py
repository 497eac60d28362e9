import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sk_unlearn.metrics import feature_probe, hidden_features, retrain_distance
from tests import _problems

LABEL = 3


def test_features_that_still_know_a_class_are_told(digits):
    assert not (digits.head_only.predict(digits.X) == LABEL).any()
    found = feature_probe(digits.head_only, digits.retrained, digits.X_test, digits.y_test, LABEL)
    before = feature_probe(digits.original, digits.retrained, digits.X_test, digits.y_test, LABEL)
    assert found == before  # inside nothing has happened
    assert found.excess > 0.3
    assert found.recall > max(found.reference_recalls) + 0.2


def test_a_retrained_net_is_among_the_others(digits):
    one, *others = digits.retrained
    found = feature_probe(one, others, digits.X_test, digits.y_test, LABEL)
    assert abs(found.excess) < 0.15
    of_default = feature_probe(digits.default, digits.retrained, digits.X_test, digits.y_test, LABEL)
    of_head = feature_probe(digits.head_only, digits.retrained, digits.X_test, digits.y_test, LABEL)
    assert of_default.excess < of_head.excess / 2


def test_features_are_what_the_output_layer_is_given(digits):
    features = hidden_features(digits.original, digits.X_test)
    body = digits.original.net_.module_.body
    logits = features @ body[-1].weight.detach().double().numpy().T + body[-1].bias.detach().double().numpy()
    proba = digits.original.predict_proba(digits.X_test)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), proba, atol=1e-5)
    halved = make_pipeline(FunctionTransformer(lambda X: X / 2), digits.original)
    np.testing.assert_array_equal(hidden_features(halved, 2 * digits.X_test), features)
    assert retrain_distance(digits.original, digits.original, digits.X_test) == 0


class Twice(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_features_in, n_outputs)

    def forward(self, x):
        return 2 * self.layer(x)


def test_arguments(digits):
    X, y = digits.X_test[:60], digits.y_test[:60]

    def probed(change):
        given = {"estimator": digits.original, "references": digits.retrained, "X": X, "y": y, "label": LABEL}
        return feature_probe(**given | change)

    for change, message in (
        ({"references": []}, "references must hold at least 1 retrained model, got 0"),
        ({"y": y[:5]}, r"y must have shape \(60,\), as X has rows, got \(5,\)"),
        ({"label": "three"}, "y must hold rows of at least two classes, and label must be one of them"),
        ({"n_shots": 0}, "n_shots must be an int of at least 1, got 0"),
        ({"n_draws": 1.5}, "n_draws must be an int of at least 1, got 1.5"),
        ({"n_shots": 40}, "n_shots=40 rows of each class are drawn, and one of the classes has"),
    ):
        with pytest.raises(ValueError, match=message):
            probed(change)
    est = _problems.classifier(module=Twice, max_epochs=1).fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="There are no features before an output layer: the module's output is not"):
        hidden_features(est, X)
