import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetBinaryClassifier
from torch import nn

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.metrics import RelearningCurve, relearning_curve
from sk_unlearn.references import fit_many
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import Retrain
from tests import _problems


@pytest.fixture(scope="module")
def lesson(digits):
    """All threes and as many other rows, to be learnt; and threes that no model has seen."""
    others = np.flatnonzero(~digits.gone)[: np.count_nonzero(digits.gone)]
    rows = np.concatenate([np.flatnonzero(digits.gone), others])
    new = digits.y_test == digits.label
    scored = {"X_test": digits.X_test[new], "y_test": digits.y_test[new], "n_steps": 8}
    return {"X": digits.X[rows], "y": digits.y[rows]} | scored


def test_what_was_only_hidden_is_learnt_faster(digits, lesson):
    found = relearning_curve(digits.head_only, digits.retrained, **lesson)
    assert found.mean > max(found.reference_means) + 0.2
    assert found.steps < min(found.reference_steps)
    assert not found.is_loss
    assert found.scores.shape == (9,)
    assert found.reference_scores.shape == (4, 9)
    default = relearning_curve(digits.default, digits.retrained, **lesson)
    assert default.mean < found.mean - 0.2
    one, *others = digits.retrained
    fair = relearning_curve(one, others, **lesson)
    assert abs(fair.mean - np.mean(fair.reference_means)) < 0.1


def test_all_outputs_start_alike(digits, lesson):
    """What was done to the output of the class makes no difference, nor does having none."""
    of_head, of_original = (
        relearning_curve(m, digits.retrained, **lesson) for m in (digits.head_only, digits.original)
    )
    np.testing.assert_array_equal(of_head.scores, of_original.scores)
    quick = MLPNetClassifier(max_epochs=40)
    renewed = UnlearnableClassifier(quick, random_state=1, unlearner=Retrain()).fit(digits.X, digits.y)
    renewed.forget(digits.X[digits.gone])
    assert digits.label in renewed.classes_
    wide, narrow = (relearning_curve(digits.original, [each], **lesson) for each in (renewed, digits.retrained[0]))
    assert narrow.reference_scores[0, 0] < 0.5  # nothing is known before the first step
    assert abs(wide.reference_means[0] - narrow.reference_means[0]) < 0.15


class Regression:
    """One layer under plain gradient descent, whose every step can be written down."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.X, self.y = rng.normal(size=(30, 3)), rng.normal(size=30)
        settings = {"lr": 0.1, "batch_size": -1, "max_epochs": 4, "optimizer__weight_decay": 0.2}
        net = dict(module=_problems.affine(3), **settings)
        self.models = [_problems.regressor(**net).fit(self.X[k:], self.y[k:, None]) for k in (0, 5, 10)]

    def steps_by_hand(self, model, X, y, n_steps):
        layer, A = model.net_.module_, np.column_stack([X, np.ones(len(X))])
        w = np.append(layer.weight.detach().numpy().ravel(), layer.bias.detach().numpy())
        errors = [np.mean((A @ w - y) ** 2)]
        for _ in range(n_steps):
            w = w - 0.1 * (2 / len(X) * A.T @ (A @ w - y) + 0.2 * w)
            errors.append(np.mean((A @ w - y) ** 2))
        return errors


@pytest.mark.parametrize("seed", range(3))
def test_steps_are_those_of_the_optimiser(seed):
    case = Regression(seed)
    erased, targets = case.X[:5], case.y[:5]
    found = relearning_curve(case.models[0], case.models[1:], erased, targets[:, None], n_steps=6)
    assert found.is_loss
    by_hand = [case.steps_by_hand(model, erased, targets, 6) for model in case.models]
    np.testing.assert_allclose(found.scores, by_hand[0], rtol=1e-10)
    np.testing.assert_allclose(found.reference_scores, by_hand[1:], rtol=1e-10)
    assert found.threshold == pytest.approx(np.mean([[each[0], each[-1]] for each in by_hand[1:]]))
    np.testing.assert_allclose(
        found.reference_means, np.mean(by_hand[1:], axis=1) * 7 / 6 - np.array(by_hand)[1:, 0] / 6
    )


def test_steps_to_the_threshold():
    found = RelearningCurve(np.array([0.1, 0.5, 0.9]), np.array([[0.0, 0.4, 0.4], [0.6, 0.7, 0.8]]), 0.5, False)
    assert (found.steps, found.reference_steps) == (1, (np.inf, 0))
    assert found._replace(is_loss=True).steps == 0


def test_models_are_left_as_they_are(digits, lesson):
    def known(model):
        optimiser = model.net_.optimizer_
        return flat_parameters(model.net_), optimiser.param_groups[0]["lr"], len(optimiser.state), model.net_.module_

    before = [known(model) for model in (digits.original, *digits.retrained)]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  the global one
    first, again, other = (
        relearning_curve(digits.original, digits.retrained, **lesson, random_state=seed) for seed in (0, 0, 1)
    )
    for old, new in zip(before, [known(model) for model in (digits.original, *digits.retrained)], strict=True):
        torch.testing.assert_close(new[0], old[0], rtol=0, atol=0)
        assert new[1:] == old[1:]
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.reference_scores, again.reference_scores)
    assert not np.array_equal(first.reference_scores, other.reference_scores)


def test_pipelines_transform_rows_themselves(digits, lesson):
    halved = make_pipeline(FunctionTransformer(lambda X: X / 2), digits.original)
    doubled = lesson | {"X": 2 * lesson["X"], "X_test": 2 * lesson["X_test"]}
    alike = make_pipeline(FunctionTransformer(lambda X: X / 2), digits.retrained[0])
    a, b = (
        relearning_curve(halved, [alike], **doubled),
        relearning_curve(digits.original, digits.retrained[:1], **lesson),
    )
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.reference_scores, b.reference_scores)


class Ending(nn.Module):
    """A net of several endings, and if asked for with a number of outputs that it insists on."""

    def __init__(self, ending=None, n_outputs=3, insists=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, n_outputs))
        self.ending, self.n_outputs, self.insists = ending, n_outputs, insists

    def forward(self, X):
        z = self.body(X)
        if self.insists:
            z = z.reshape(-1, self.n_outputs)
        return z if self.ending is None else self.ending(z)


def of_iris(last_class_too=True, **settings):
    X, y = _problems.centred_iris()
    kept = (y < 2) | last_class_too
    settings = {"module": Ending, "lr": 0.05, "optimizer": torch.optim.Adam, "max_epochs": 15} | settings
    return _problems.classifier(**settings).fit(X[kept], y[kept]), X, y


@pytest.mark.parametrize(
    "settings",
    [
        {"module__ending": nn.Softmax(-1), "criterion": nn.NLLLoss},  # skorch's classifier takes its logarithm
        # which evaluates the loss itself
        {"optimizer": torch.optim.LBFGS, "lr": 1.0, "batch_size": -1, "optimizer__line_search_fn": "strong_wolfe"},
        {"module__n_outputs": 5},  # outputs that stand for no class
    ],
)
def test_nets_of_users(settings):
    (model, X, y), (retrained, *_) = of_iris(**settings), of_iris(False, **settings)
    assert retrained.classes_.tolist() == [0, 1]
    found = relearning_curve(model, [retrained], X, y, X_test=X[y == 2], y_test=y[y == 2], n_steps=40)
    assert found.scores[-1] > 0.8
    assert found.reference_scores[0, -1] > 0.8


def test_a_class_that_another_net_has_never_seen(digits, lesson):
    explicit = relearning_curve(digits.original, digits.retrained[:1], **lesson, fresh=[3])
    np.testing.assert_array_equal(
        explicit.scores, relearning_curve(digits.original, digits.retrained[:1], **lesson).scores
    )
    more = relearning_curve(digits.original, digits.retrained[:1], **lesson, fresh=[3, 5])
    assert not np.array_equal(more.scores, explicit.scores)


def test_nothing_starts_afresh_where_no_class_is_gone():
    model, X, y = of_iris()
    other = fit_many(UnlearnableClassifier(model.estimator), X[5:], y[5:], seeds=[1])
    found = relearning_curve(model, other, X[:5], y[:5], n_steps=2)
    assert found.scores[0] == np.mean(model.predict(X[:5]) == y[:5])


def test_what_cannot_start_afresh_is_refused():
    model, X, y = of_iris()
    rows = {"X": X, "y": y, "fresh": [2]}
    weighed = of_iris(criterion__weight=torch.ones(3))[0]
    with pytest.raises(ValueError, match="criterion of the net weighs classes"):
        relearning_curve(weighed, [weighed], **rows)
    insists = of_iris(module__insists=True)[0], of_iris(False, module__insists=True, module__n_outputs=2)[0]
    with pytest.raises(ValueError, match="No class can start afresh in a module that takes no other number"):
        relearning_curve(insists[0], insists[1:], X, y)
    twice = of_iris(module__ending=lambda z: 2 * z)[0]
    with pytest.raises(ValueError, match="cannot start afresh without an output layer: the module's output is not"):
        relearning_curve(twice, [model], **rows)
    net = _problems.skorch_net(Ending(n_outputs=1, ending=nn.Flatten(0)), NeuralNetBinaryClassifier, max_epochs=2)
    one = UnlearnableClassifier(net).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match="cannot start afresh in a net with one output for two classes"):
        relearning_curve(one, [one], X[:100], y[:100], fresh=[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": []}, "references must hold at least 1 retrained model, got 0"),
        ({"y": [1]}, "X and y must hold the same number of rows, at least one; got 5 and 1"),
        ({"X_test": np.ones((2, 64))}, "X_test and y_test belong together"),
        ({"X_test": np.ones((2, 64)), "y_test": [1]}, "X_test and y_test must hold the same number of rows"),
        ({"n_steps": 0}, "n_steps must be an int of at least 1, got 0"),
        ({"n_steps": 2.5}, "n_steps must be an int of at least 1, got 2.5"),
        ({"y": 1}, "X and y must hold the same number of rows, at least one; got 5 and one number"),
        ({"y": list("abcde")}, "must be numbers, or all of them text"),
        ({"fresh": ["a"]}, "must be numbers, or all of them text"),
    ],
)
def test_arguments(digits, change, message):
    given = {"estimator": digits.original, "references": digits.retrained[:1], "X": digits.X[:5], "y": digits.y[:5]}
    with pytest.raises(ValueError, match=message):
        relearning_curve(**given | change)


def test_other_models(digits):
    rows = digits.X[:9], digits.y[:9]
    with pytest.raises(TypeError, match="A network is trained here, and LogisticRegression has none"):
        relearning_curve(digits.original, [LogisticRegression().fit(*rows)], *rows)
    with pytest.raises(TypeError, match="references must be a list of retrained models, got UnlearnableClassifier"):
        relearning_curve(digits.original, digits.retrained[0], *rows)
    regressor = UnlearnableRegressor(random_state=0).fit(*rows)
    with pytest.raises(ValueError, match="references must be of the kind of estimator"):
        relearning_curve(digits.original, [regressor], *rows)
    with pytest.raises(NotFittedError):
        relearning_curve(UnlearnableClassifier(), digits.retrained, *rows)


@pytest.mark.gpu
def test_on_cuda(digits, lesson):
    on_gpu = [UnlearnableClassifier(random_state=k, device="cuda").fit(digits.X, digits.y) for k in (0, 1)]
    on_gpu[1].forget(digits.X[digits.gone])
    found = relearning_curve(on_gpu[0], on_gpu[1:], **lesson)
    assert found.scores[-1] > 0.8
    assert next(on_gpu[0].net_.module_.parameters()).device.type == "cuda"
