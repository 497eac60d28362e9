"""from_fitted: a net that was trained elsewhere can forget as if the estimator had trained it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import RowRole
from sk_unlearn.unlearners import CuReNU, FineTune, HessianFreeRecording, Retrain, StoCuReNU
from tests._problems import Mlp, mlp, parameters, skorch_net

rng = np.random.default_rng(3)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)
target = (X @ [1.0, -1.0, 0.5]).astype(np.float32)

SHAPE = {"module__n_features_in": 3, "module__n_outputs": 3}
SETTINGS = {"max_epochs": 15, "lr": 0.1, "batch_size": 16, "optimizer__weight_decay": 1e-3}


def fitted_pair(kind=NeuralNetClassifier, unlearner=None, module=Mlp, y=y, **settings):
    """An estimator that was fitted, and one of a net that skorch alone has trained in the same way."""
    shape = SHAPE if module is Mlp else {}
    if kind is NeuralNetRegressor and module is Mlp:
        shape = SHAPE | {"module__n_outputs": 1}
    net = skorch_net(module, kind, **(SETTINGS | shape | settings))
    estimator = UnlearnableRegressor if kind is NeuralNetRegressor else UnlearnableClassifier
    ours = estimator(net, unlearner, random_state=0).fit(X, y)
    with torch.random.fork_rng():
        torch.manual_seed(ours.unlearning_state_.seed)
        theirs = clone(net).fit(X, y[:, None] if kind is NeuralNetRegressor else y)
    return ours, theirs


def trained_module(n_outputs=3, module=None):
    torch.manual_seed(0)
    module = module or mlp(3, n_outputs, 5)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        optimiser.step()
    return module


def same(a, b):
    return np.allclose(parameters(a), parameters(b), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- as after fit


# The default may train anew after fit, by a schedule that an adopted net does not have.
@pytest.mark.parametrize("unlearner", [StoCuReNU(renew=False), CuReNU(), FineTune(), Retrain()], ids=str)
@pytest.mark.parametrize("kind", [NeuralNetClassifier, NeuralNetRegressor])
def test_forgets_as_after_fit(kind, unlearner):
    values = target if kind is NeuralNetRegressor else y
    ours, theirs = fitted_pair(kind, unlearner, y=values)
    adopted = type(ours).from_fitted(theirs, X, values, unlearner=unlearner, random_state=0)
    assert np.array_equal(parameters(ours), parameters(adopted))
    assert same(ours.forget(X[:4]), adopted.forget(X[:4]))
    assert adopted.unlearning_report_.parameters_moved
    assert same(ours.forget(X[4:5]), adopted.forget(X[4:5]))
    assert adopted.score(X, values) == pytest.approx(ours.score(X, values), abs=1e-6)


def test_everything_else_works_as_after_fit():
    ids = [f"p{i}" for i in range(60)]
    ours, theirs = fitted_pair()
    est = UnlearnableClassifier.from_fitted(theirs, X, y, sample_id=ids, random_state=0)
    assert est.classes_.tolist() == [0, 1, 2]
    assert est.n_features_in_ == 3
    est.correct(X[:2], y_new=(y[:2] + 1) % 3).partial_fit(X[:1] + 1, y[:1], sample_id=["new"])
    assert len(est.training_set_) == 61
    loaded = pickle.loads(pickle.dumps(est))
    assert same(loaded.forget(sample_id=["p5", "new"]), est.forget(sample_id=["p5", "new"]))
    again = clone(est).fit(X, y)
    assert np.array_equal(parameters(again), parameters(ours))
    assert [n for n, _ in again.net_.module_.named_parameters()] == [n for n, _ in est.net_.module_.named_parameters()]


def test_keeps_feature_names_and_weights():
    pd = pytest.importorskip("pandas")
    ours, theirs = fitted_pair()
    weight = np.linspace(0, 2, 60)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = UnlearnableClassifier.from_fitted(theirs, frame, y, sample_weight=weight)
    assert est.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(est.training_set_.sample_weight, weight)
    np.testing.assert_array_equal(est.training_set_.role, [RowRole.UNSEEN] + [RowRole.TRAINED] * 59)
    assert np.array_equal(parameters(est), parameters(ours))


def test_no_second_copy_of_the_parameters_is_taken_over():
    stop = EarlyStopping(monitor="train_loss", load_best=True)
    _, theirs = fitted_pair(callbacks=[("stop", stop)])
    est = UnlearnableClassifier.from_fitted(theirs, X, y)
    kept = [dict(net.callbacks_)["stop"].best_model_weights_ for net in (est.net_, theirs)]
    assert kept[0] is None
    assert kept[1] is not None


def test_device():
    ours, theirs = fitted_pair(optimizer=torch.optim.Adam, lr=0.01)
    est = UnlearnableClassifier.from_fitted(theirs, X, y, device="cpu", random_state=0)
    assert est.net_.device == "cpu"
    both = [e.partial_fit(X[:20], y[:20]) for e in (ours, est)]  # with what the optimiser has accumulated
    assert np.array_equal(*map(parameters, both))


def test_rows_that_are_not_kept():
    est = UnlearnableClassifier.from_fitted(fitted_pair()[1], X, y, keep_training_set=False, random_state=0)
    before = parameters(est)
    assert not hasattr(est, "training_set_")
    est.partial_forget(X[:2], y[:2])
    assert not np.array_equal(before, parameters(est))


def test_mask_of_trained_rows():
    split = {"train_split": ValidSplit(5, stratified=True)}
    ours, theirs = fitted_pair(unlearner=StoCuReNU(renew=False), **split)
    mask = ours.training_set_.role == RowRole.TRAINED
    est = UnlearnableClassifier.from_fitted(
        theirs, X, y, trained=mask.tolist(), unlearner=StoCuReNU(renew=False), random_state=0
    )
    np.testing.assert_array_equal(est.training_set_.role, np.where(mask, RowRole.TRAINED, RowRole.UNSEEN))
    before = parameters(est)
    est.forget(X[~mask][:2])
    assert np.array_equal(before, parameters(est))
    assert same(est.forget(X[mask][:3]), ours.forget(X[~mask][:2]).forget(X[mask][:3]))


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: skorch_net(module, **SETTINGS).initialize()])
def test_nothing_is_shared_with_the_net_that_was_given(wrap):
    net = wrap(trained_module())
    before = copy.deepcopy(net.state_dict() if isinstance(net, nn.Module) else net.module_.state_dict())
    est = UnlearnableClassifier.from_fitted(net, X, y, random_state=0)
    state = parameters(est)
    est.forget(X[:5]).partial_fit(X[5:9], y[5:9])
    module = net if isinstance(net, nn.Module) else net.module_
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    est = UnlearnableClassifier.from_fitted(net, X, y, random_state=0)
    for parameter in module.parameters():
        parameter.data.zero_()
    assert np.array_equal(parameters(est), state)
    held = {p.data_ptr() for p in est.estimator.parameters()} if isinstance(est.estimator, nn.Module) else set()
    assert held.isdisjoint(p.data_ptr() for p in [*module.parameters(), *est.net_.module_.parameters()])


# ------------------------------------------------------------------------------------------------------- bare modules


def test_module_is_adopted_with_its_outputs():
    module = trained_module()
    est = UnlearnableClassifier.from_fitted(module, X, y, random_state=0)
    wanted = module(torch.from_numpy(X)).softmax(1).detach().numpy()
    np.testing.assert_allclose(est.predict_proba(X), wanted, atol=1e-6)
    before = parameters(est)
    report = est.forget(X[:3]).unlearning_report_
    assert report.n_trained_erased == 3
    assert not np.array_equal(before, parameters(est))


class Table(nn.Module):
    """Holds a parameter itself and cannot reset it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 3))

    def forward(self, X):
        return X @ self.table


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: skorch_net(module, **SETTINGS).initialize()])
def test_retraining_does_not_begin_at_the_trained_weights(wrap):
    est = UnlearnableClassifier.from_fitted(wrap(trained_module()), X, y, unlearner=Retrain(), random_state=0)
    trained = parameters(est)
    if isinstance(est.estimator, nn.Module):
        start = torch.cat([p.flatten() for p in est.estimator.parameters()]).detach().numpy()
    else:
        start = flat_parameters(clone(est.estimator).initialize()).numpy()
    assert np.abs(start - trained).max() > 0.1
    retrained = parameters(est.forget(X[:3]))
    rest = clone(est).fit(X[3:], y[3:])
    assert np.array_equal(retrained, parameters(rest))


def test_module_that_cannot_be_reset_needs_a_start():
    module = trained_module(module=Table())
    with pytest.raises(ValueError, match=r"'Table'.*no reset_parameters.*initial_parameters.*estimator"):
        UnlearnableClassifier.from_fitted(module, X, y)
    given = [
        UnlearnableClassifier.from_fitted(module, X, y, initial_parameters=np.zeros(9), random_state=0),
        UnlearnableClassifier.from_fitted(module, X, y, estimator=Table(), random_state=0),
        UnlearnableClassifier.from_fitted(module, X, y, estimator=Table, random_state=0),
    ]
    states = [parameters(est.set_params(unlearner=Retrain()).forget(X[:3])) for est in given]
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(states[0], states[2])


def test_estimator_that_begins_at_the_trained_weights_is_refused():
    module = trained_module()
    for start in ({"estimator": module}, {"estimator": skorch_net(module)}, {"initial_parameters": module}):
        with pytest.raises(ValueError, match="begin at the trained weights, so that retraining would forget nothing"):
            UnlearnableClassifier.from_fitted(module, X, y, **start)


def test_estimator_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match="another architecture"):
        UnlearnableClassifier.from_fitted(trained_module(), X, y, estimator=mlp(3, 3, 6))


def test_frozen_parameters_stay_in_the_untrained_module():
    module = mlp(3, 3, 5)
    module[0].requires_grad_(False)
    est = UnlearnableClassifier.from_fitted(trained_module(module=module), X, y, random_state=0)
    assert torch.equal(est.estimator[0].weight, module[0].weight)
    assert not est.estimator[0].weight.requires_grad
    assert not torch.equal(est.estimator[2].weight, module[2].weight)


# ------------------------------------------------------------------------------------------- beside the parameters


class Maxima(nn.Module):
    """Divides by the largest magnitude that training has seen, after layers with statistics and a constant."""

    def __init__(self):
        super().__init__()
        self.register_buffer("largest", torch.full((3,), 1e-6))
        self.register_buffer("constant", torch.ones(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.body = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))

    def forward(self, X):
        if self.training:
            self.largest = torch.maximum(self.largest, X.detach().abs().amax(0))
        return self.body(X / self.largest * self.constant)


def test_what_training_may_have_changed_beside_the_parameters_is_said():
    torch.manual_seed(2)
    start = Maxima()
    module = trained_module(module=copy.deepcopy(start))

    def notes(**options):
        est = UnlearnableClassifier.from_fitted(module, X, y, random_state=0, **options)
        for rows in (X[:1], X[1:3]):
            told = [note for note in est.forget(rows).unlearning_report_.notes if "buffers" in note]
            assert len(told) == 1
        est.set_params(unlearner=Retrain()).forget(X[3:4])
        assert not any("buffers" in note for note in est.unlearning_report_.notes)
        return told[0]

    vector = torch.cat([p.flatten() for p in start.parameters()])
    for unknown in ({"estimator": Maxima}, {"initial_parameters": vector}):
        assert "is not known: largest, constant. If it did, they still carry the erased rows" in notes(**unknown)
    for known in (start, start.state_dict()):
        assert "Training changed buffers" in notes(initial_parameters=known)
        assert "afresh: largest. They still carry" in notes(initial_parameters=known)


def test_nothing_is_said_of_statistics_that_are_taken_anew():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    est = UnlearnableClassifier.from_fitted(trained_module(module=net), X, y, random_state=0).forget(X[:2])
    assert not any("buffers" in note for note in est.unlearning_report_.notes)


# --------------------------------------------------------------------------------------------------- where it started


def test_initial_parameters_are_kept():
    torch.manual_seed(5)
    start = mlp(3, 3, 5)
    vector = torch.cat([p.flatten() for p in start.parameters()]).detach()
    module = trained_module(module=copy.deepcopy(start))
    for given in (start, start.state_dict(), vector, vector.double().numpy(), vector.tolist()):
        est = UnlearnableClassifier.from_fitted(module, X, y, initial_parameters=given, random_state=0)
        assert torch.equal(est.unlearning_state_.start.parameters, vector)
        assert torch.equal(est.estimator[0].weight, start[0].weight)
    assert UnlearnableClassifier.from_fitted(module, X, y).unlearning_state_.start is None
    loaded = pickle.loads(pickle.dumps(est.forget(X[:1])))
    assert torch.equal(loaded.unlearning_state_.start.parameters, vector)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(7), r"shape \(38,\).*got shape \(7,\)"),
        ({"0.weight": torch.zeros(5, 3)}, "must be those of the net's module"),
        (nn.Linear(3, 3), "must be those of the net's module"),
        (np.full(38, np.nan), "finite"),
    ],
)
def test_initial_parameters_of_another_net_are_refused(given, message):
    with pytest.raises(ValueError, match="initial_parameters.*" + message):
        UnlearnableClassifier.from_fitted(trained_module(), X, y, initial_parameters=given)


# -------------------------------------------------------------------------------------------------------------- labels


def test_class_numbers_are_outputs_also_where_a_class_has_no_row():
    module = trained_module()
    there = y != 1
    est = UnlearnableClassifier.from_fitted(module, X[there], y[there], random_state=0)
    assert est.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(est.training_set_.y, y[there])
    assert est.predict_proba(X).shape == (60, 3)


@pytest.mark.parametrize("names", [np.array(["a", "b", "c"]), np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])])
def test_other_labels_stand_for_the_outputs_in_order(names):
    est = UnlearnableClassifier.from_fitted(trained_module(), X, names[y])
    np.testing.assert_array_equal(est.classes_, names)
    np.testing.assert_array_equal(est.training_set_.y, y)
    assert set(est.predict(X)) <= set(names)


def test_labels_that_the_net_knows():
    net = skorch_net(Mlp, classes=["a", "b", "c"], **SETTINGS, **SHAPE).initialize()
    there = y != 1
    est = UnlearnableClassifier.from_fitted(net, X[there], np.array(["a", "b", "c"])[y[there]])
    assert est.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(est.training_set_.y, y[there])
    net.set_params(classes=["b", "a", "c"])
    with pytest.raises(ValueError, match="classes of the net must be sorted"):
        UnlearnableClassifier.from_fitted(net, X, np.array(["a", "b", "c"])[y])


def test_binary():
    two = (y > 0).astype(np.int64)
    net = NeuralNetBinaryClassifier(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), verbose=0, train_split=None)
    net.fit(X, two.astype(np.float32))
    for labels in (two, np.array(["no", "yes"])[two]):
        est = UnlearnableClassifier.from_fitted(net, X, labels, random_state=0)
        assert est.forget(X[:2]).unlearning_report_.parameters_moved
        assert set(est.predict(X)) <= set(labels)
    with pytest.raises(ValueError, match="NeuralNetBinaryClassifier"):
        UnlearnableClassifier.from_fitted(nn.Linear(3, 1), X, two)


# ------------------------------------------------------------------------------------------------------------ refused


def test_what_cannot_be_adopted_is_refused():
    net, module = skorch_net(Mlp, **SHAPE), trained_module()
    adopt = UnlearnableClassifier.from_fitted
    with pytest.raises(ValueError, match="net is not initialised"):
        adopt(net, X, y)
    for wrong in (Mlp, "net", None):
        with pytest.raises(TypeError, match=r"net must be a trained skorch NeuralNet or torch\.nn\.Module"):
            adopt(wrong, X, y)
    with pytest.raises(TypeError, match=r"net=NeuralNetClassifier must be a regressor"):
        UnlearnableRegressor.from_fitted(net.initialize(), X, target)
    with pytest.raises(ValueError, match=r"y has 4 labels and the net separates 3 classes"):
        adopt(module, X, np.arange(60) % 4 + 1)
    with pytest.raises(ValueError, match="y has 2 labels and the net separates 3 classes"):
        adopt(module, X, np.where(y > 0, "a", "b"))
    with pytest.raises(ValueError, match="1 targets a row and the net gives 3 values"):
        UnlearnableRegressor.from_fitted(module, X, target)
    for mask in (np.ones(59, bool), np.ones(60, int)):
        with pytest.raises(ValueError, match=r"trained must be a boolean mask of shape \(60,\)"):
            adopt(module, X, y, trained=mask)
    with pytest.raises(ValueError, match="trained leaves no row of positive weight"):
        adopt(module, X, y, trained=np.arange(60) < 5, sample_weight=np.arange(60) >= 5)
    with pytest.raises(ValueError, match="unlearner"):
        adopt(module, X, y, unlearner="CuReNU")
    with pytest.raises(ValueError, match="no trainable parameter"):
        adopt(copy.deepcopy(module).requires_grad_(False), X, y)
    broken = copy.deepcopy(module)
    broken[0].weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        adopt(broken, X, y)


def test_unlearner_that_needed_to_watch_says_so():
    est = UnlearnableClassifier.from_fitted(trained_module(), X, y, unlearner=HessianFreeRecording())
    with pytest.raises(ValueError, match="record"):
        est.forget(X[:1])
    est.set_params(unlearner=StoCuReNU()).forget(X[:1])


def test_what_is_no_net_is_not_quoted():
    rows = np.full((3, 2), 12345.678)
    with pytest.raises(TypeError, match="got ndarray") as raised:
        UnlearnableClassifier.from_fitted(rows, rows, [0, 1, 1])
    assert "12345" not in str(raised.value)


class Abrupt(nn.Linear):
    def forward(self, x):
        if torch.is_grad_enabled() and self.weight.requires_grad:
            raise RuntimeError("no gradient here")
        return super().forward(x)


def test_a_net_that_could_not_forget_is_refused_as_by_fit():
    with pytest.raises(ValueError, match=r"The net fails on 2 .*rows in X, float32 of shape \(3,\).*pass these"):
        UnlearnableClassifier.from_fitted(nn.Linear(5, 3), X, y)
    with pytest.raises(ValueError, match=r"The net fails on 2 .*rows in X, float32 of shape \(3,\).*pass these"):
        UnlearnableRegressor.from_fitted(nn.Linear(5, 1), X, target)
    with pytest.raises(ValueError, match=r"The net fails on 4 .*no gradient here\..*mend its module or criterion"):
        UnlearnableClassifier.from_fitted(Abrupt(3, 3), X, y)
    with torch.inference_mode():
        module = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"net has parameters .*inference_mode.*load its state_dict"):
        UnlearnableClassifier.from_fitted(module, X, y)
