"""Any net a user may bring: images with BatchNorm, look-ups with recurrence, probabilities, frozen or bare modules."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._batch_norm import batch_norm_layers
from sk_unlearn.metrics import retrain_distance
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import CuReNU, FineTune, Retrain, Status, StoCuReNU, Unlearner, UnlearningResult
from tests import _problems
from tests._problems import Mlp, parameters

SETTINGS = {"max_epochs": 4, "batch_size": 16, "lr": 0.1, "train_split": None, "verbose": 0}

rng = np.random.default_rng(4)
images = rng.normal(size=(48, 1, 6, 6)).astype(np.float32)
shapes = (images[:, 0, :3].mean((1, 2)) > images[:, 0, 3:].mean((1, 2))).astype(int)
table = rng.normal(size=(40, 3)).astype(np.float32)
sides = (table[:, 0] > 0).astype(int)


class Cnn(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(48, n_outputs)

    def forward(self, X):
        return self.head(self.features(X))


class Reader(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.memory = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, n_outputs)

    def forward(self, X):
        return self.head(self.memory(self.words(X))[0][:, -1])


class SoftmaxMlp(Mlp):
    def forward(self, X):
        return super().forward(X).softmax(1)


def classifier(module, unlearner=None, **settings):
    return _problems.classifier(unlearner, module, **(SETTINGS | settings))


def statistics(est):
    return {k: v.clone() for k, v in est.net_.module_.state_dict().items() if "running" in k}


# ----------------------------------------------------------------------------------------------------------- BatchNorm


def test_images_with_batch_norm():
    est = classifier(Cnn).fit(images, shapes)
    assert est.n_features_in_ == 1
    before = statistics(est)
    est.forget(images[:4])
    after = statistics(est)
    assert all(not torch.equal(before[k], after[k]) for k in before)
    assert np.isfinite(est.predict_proba(images)).all()
    with pytest.raises(ValueError, match="shape"):
        est.forget(images[4:5, :, :5])


def test_statistics_follow_the_rows_and_all_else_is_as_before():
    est = classifier(Cnn, StoCuReNU(renew=False)).fit(images, shapes)
    modes = [layer.training for layer in est.net_.module_.modules()]
    before, module = statistics(est)["features.1.running_mean"], copy.deepcopy(est.net_.module_).eval()
    share = 1 - 0.9**12  # of rows, after four passes of three batches
    with torch.no_grad():
        old = module.features[0](torch.from_numpy(images)).mean((0, 2, 3))
    est.forget(images[:4])
    with torch.no_grad():
        new = est.net_.module_.features[0](torch.from_numpy(images[4:])).mean((0, 2, 3))
    norm = est.net_.module_.features[1]
    np.testing.assert_allclose(norm.running_mean - before, share * (new - old), rtol=1e-3, atol=1e-6)
    assert norm.momentum == 0.1
    assert [layer.training for layer in est.net_.module_.modules()] == modes


@pytest.mark.parametrize("unlearner", [FineTune(), CuReNU()])
def test_no_statistic_knows_the_erased_rows(unlearner):
    # Fitted statistics that are absurd because of one row are not so afterwards.
    data = images.copy()
    data[0] += 1e3
    est = classifier(Cnn, unlearner, lr=1e-4, batch_size=48).fit(data, shapes)
    assert max(float(v.max()) for k, v in statistics(est).items() if "var" in k) > 1e3
    est.forget(data[:1])
    assert max(float(v.max()) for k, v in statistics(est).items() if "var" in k) < 1e2


def test_a_sequence_with_batch_norm_is_stable():
    est = classifier(Cnn).fit(images, shapes)
    joint = copy.deepcopy(est).forget(images[:8])
    for first in (0, 4):
        est.forget(images[first : first + 4])
        report = est.unlearning_report_
        assert report.step_norm < 1.0
        # What is to be undone comes from the rows alone, and not from the statistics having changed.
        assert report.gradient_norm_before < 2 * (4 / 44) * report.erased_gradient_norm + 4 / 44 * report.residual_norm
    assert np.abs(est.predict_proba(images) - joint.predict_proba(images)).max() < 0.1


def test_new_statistics_are_nothing_to_undo():
    est = classifier(Cnn, StoCuReNU(renew=False)).fit(images, shapes)
    residual = est.unlearning_state_.anchor.residual.clone()
    est.forget(images[:4])
    # What the next request starts from is the gradient that there is, under the new statistics, and its target has
    # moved as far as that gradient has.
    gradient = EmpiricalRisk(est.net_, est.training_set_.X, est.training_set_.y).gradient(flat_parameters(est.net_))
    anchor = est.unlearning_state_.anchor
    torch.testing.assert_close(anchor.gradient, gradient, rtol=1e-3, atol=1e-6)
    assert (anchor.residual - residual).norm() > 1e-3 * residual.norm()
    left = est.unlearning_report_.gradient_norm_after
    assert float((anchor.gradient - anchor.residual).norm()) == pytest.approx(left, rel=1e-2, abs=1e-6)


def test_unlearner_without_gradient_and_batch_norm():
    class Nudge(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters + 1e-3, Status.COMPLETED, "nudged")

    est = classifier(Cnn, Nudge()).fit(images, shapes).forget(images[:4])
    est.set_params(unlearner=None).forget(images[4:8])
    assert len(est.training_set_) == 40


def test_correcting_every_row_keeps_the_statistics_sane():
    est = classifier(Cnn).set_params(unlearner=StoCuReNU(renew=False)).fit(images, shapes)
    before, module = statistics(est)["features.1.running_mean"], copy.deepcopy(est.net_.module_).eval()
    share = 1 - 0.9**12
    est.correct(images, X_new=images + 3)
    with torch.no_grad():
        old = module.features[0](torch.from_numpy(images)).mean((0, 2, 3))
        new = est.net_.module_.features[0](torch.from_numpy(images + 3)).mean((0, 2, 3))
    after = est.net_.module_.features[1].running_mean
    np.testing.assert_allclose(after - before, share * (new - old), rtol=1e-3, atol=1e-5)


def test_one_row_left_is_said():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    est = classifier(module).fit(table[:6], sides[:6]).forget(table[:5])
    assert "single row" in est.unlearning_report_.notes[0]
    assert np.isfinite(est.predict_proba(table)).all()


def test_layers_without_running_statistics_are_left_alone():
    module = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.InstanceNorm1d(3), nn.Linear(3, 2))
    assert batch_norm_layers(module) == []


# ---------------------------------------------------------------------------------------------------- other structures


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_embedding_and_lstm(dtype):
    words = rng.integers(10, size=(40, 6)).astype(dtype)
    y = (words[:, -1] > 4).astype(int)
    est = classifier(Reader).fit(words, y)
    assert est.training_set_.X.dtype == np.int64
    before = parameters(est)
    est.forget(words[:3])
    assert not np.array_equal(before, parameters(est))
    assert np.isfinite(est.predict_proba(words)).all()
    est.correct(words[3:4], X_new=words[3:4, ::-1])


def test_bare_embedding_without_rows():
    words = rng.integers(10, size=(40, 6))
    est = classifier(Reader).set_params(keep_training_set=False).fit(words, words[:, 0] > 4)
    est.partial_forget(words[:2], words[:2, 0] > 4)


def test_probabilities_and_nll():
    est = classifier(SoftmaxMlp, criterion=nn.NLLLoss).fit(table, sides)
    np.testing.assert_allclose(est.predict_proba(table).sum(1), 1, rtol=1e-5)
    est.forget(table[:3])
    assert est.unlearning_report_.parameters_moved


@pytest.mark.parametrize("labels", [("a", "b"), (False, True), (3, 7)])
def test_binary_net(labels):
    y = np.array(labels)[sides]
    est = UnlearnableClassifier(NeuralNetBinaryClassifier(Mlp, **(SETTINGS | {"max_epochs": 20})), random_state=0).fit(
        table, y
    )
    assert est.net_.module_.body[-1].out_features == 1
    assert est.predict_proba(table).shape == (40, 2)
    est.forget(table[:3], y[:3])
    assert est.score(table, y) > 0.7
    assert est.unlearning_report_.parameters_moved


def test_outputs_that_stand_for_no_class_are_left_out():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    module = nn.Linear(4, 5)
    with torch.no_grad():
        module.bias[4] = 50.0  # what argmax over all outputs would give
    est = classifier(module, max_epochs=1).fit(X, y)
    raw = est.net_.predict_proba(X)
    assert raw.shape == (60, 5)
    proba = est.predict_proba(X)
    assert proba.shape == (60, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    known = raw[:, :3]
    assert (known.sum(axis=1) > 0).all()
    np.testing.assert_allclose(proba, known / known.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(est.predict(X), est.classes_[known.argmax(axis=1)])


def test_a_net_of_as_many_outputs_refitted_without_a_class_can_be_compared():
    X = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)
    y = np.arange(90) % 3
    est = classifier(nn.Linear(4, 3)).fit(X, y).forget(X[y == 1])
    reference = classifier(nn.Linear(4, 3)).fit(X[y != 1], y[y != 1])
    assert reference.predict_proba(X).shape == (90, 2)
    assert 0 <= retrain_distance(est, reference, X) < np.log(2)


def test_binary_net_needs_two_classes():
    est = UnlearnableClassifier(NeuralNetBinaryClassifier(Mlp, **SETTINGS))
    with pytest.raises(ValueError, match="separates 2 classes"):
        est.fit(table, np.arange(40) % 3)


# -------------------------------------------------------------------------------------------------------- bare modules


@pytest.mark.parametrize("kind", ["class", "instance"])
def test_bare_module_is_wrapped(kind):
    module = Mlp if kind == "class" else Mlp(3, 2)
    state = None if kind == "class" else copy.deepcopy(module.state_dict())
    est = UnlearnableClassifier(module, random_state=0).fit(table, sides).forget(table[:2])
    assert est.net_.module_ is not module
    assert est.score(table, sides) > 0.9
    if state is not None:
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())
        assert clone(est).estimator is not module
    regressor = UnlearnableRegressor(Mlp if kind == "class" else Mlp(3, 1), random_state=0).fit(table, table[:, 0])
    assert regressor.forget(table[:2]).predict(table).shape == (40,)


def test_module_instance_starts_from_its_weights_every_time():
    module = Mlp(3, 2)
    one, two = (classifier(module).fit(table, sides) for _ in range(2))
    assert np.array_equal(parameters(one), parameters(two))
    again = classifier(module, Retrain()).fit(table, sides).forget(table[:3])
    assert np.array_equal(parameters(again), parameters(classifier(module).fit(table[3:], sides[3:])))


def test_given_net_is_never_touched():
    net = NeuralNetClassifier(Mlp, criterion=nn.CrossEntropyLoss, **SETTINGS)
    before = {k: v for k, v in net.get_params().items() if "callbacks" not in k}
    est = UnlearnableClassifier(net, random_state=0).fit(table, sides).forget(table[:2])
    assert not net.initialized_
    assert est.estimator is net
    assert {k: v for k, v in net.get_params().items() if "callbacks" not in k} == before


def test_initialised_net_is_cloned():
    net = NeuralNetClassifier(Mlp(3, 2), criterion=nn.CrossEntropyLoss, **SETTINGS).initialize()
    before = flat_parameters(net)
    UnlearnableClassifier(net, random_state=0).fit(table, sides).forget(table[:2])
    assert torch.equal(flat_parameters(net), before)


@pytest.mark.parametrize("given", [{}, {"module__n_hidden": 3}, {"module__n_outputs": 4}])
def test_shapes_are_filled_in_where_unset(given):
    est = classifier(Mlp, **given).fit(table, sides)
    assert est.net_.module_.body[0].in_features == 3
    assert est.net_.module_.body[0].out_features == given.get("module__n_hidden", 5)
    assert est.net_.module_.body[-1].out_features == given.get("module__n_outputs", 2)
    assert "module__n_features_in" not in est.estimator.get_params()


def test_regression_outputs_are_filled_in():
    est = UnlearnableRegressor(NeuralNetRegressor(Mlp, **SETTINGS)).fit(table, table[:, :2])
    assert est.net_.module_.body[-1].out_features == 2


@pytest.mark.parametrize(
    ("kind", "net", "message"),
    [
        (UnlearnableClassifier, NeuralNetRegressor, "it is a regressor, for UnlearnableRegressor"),
        (UnlearnableRegressor, NeuralNetClassifier, "it is a classifier, for UnlearnableClassifier"),
        (UnlearnableClassifier, NeuralNet, "such as NeuralNetClassifier; it is neither"),
        (UnlearnableRegressor, NeuralNet, "such as NeuralNetRegressor; it is neither"),
    ],
)
def test_the_wrong_kind_of_net(kind, net, message):
    with pytest.raises(TypeError, match=message):
        kind(net(Mlp, criterion=nn.MSELoss)).fit(table, sides)


def test_the_class_of_a_net_in_place_of_a_net():
    with pytest.raises(TypeError, match=r"Pass a net, such as NeuralNetClassifier\(\.\.\.\), and not its class"):
        UnlearnableClassifier(NeuralNetClassifier).fit(np.ones((4, 2)), [0, 1, 0, 1])


def test_table_net_for_images_is_refused():
    with pytest.raises(ValueError, match="estimator=None builds a network for tables"):
        UnlearnableClassifier().fit(images, shapes)


# ------------------------------------------------------------------------------------------- optimisers, frozen, tied


def test_frozen_parameters_stay():
    module = Mlp(3, 2)
    module.body[0].requires_grad_(False)
    frozen = module.body[0].weight.detach().clone()
    est = classifier(module).fit(table, sides).forget(table[:3])
    assert est.unlearning_report_.parameters_moved
    assert torch.equal(est.net_.module_.body[0].weight, frozen)
    assert len(parameters(est)) == 12


def test_tied_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.head = nn.Linear(3, 2)

        def forward(self, X):
            return self.head(torch.tanh(self.b(torch.tanh(self.a(X)))))

    est = classifier(Tied).fit(table, sides).forget(table[:3])
    assert est.net_.module_.a.weight is est.net_.module_.b.weight
    assert np.isfinite(est.predict_proba(table)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
        {"optimizer": torch.optim.Adam, "optimizer__weight_decay": 0.01},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__weight_decay": 0.01},
        {"optimizer": torch.optim.SGD, "optimizer__param_groups": [("body.0.*", {"weight_decay": 0.1})]},
        {"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 2, "batch_size": -1, "lr": 0.5, "max_epochs": 2},
        {"criterion__weight": torch.tensor([1.0, 2.0])},
        {"criterion__label_smoothing": 0.1},
    ],
    ids=["AdamW", "Adam", "momentum", "groups", "LBFGS", "class weights", "label smoothing"],
)
def test_optimisers_and_criteria(settings):
    est = classifier(Mlp, StoCuReNU(renew=False), **settings).fit(table, sides)
    before = est.score(table, sides)
    for rows in (slice(0, 3), slice(3, 6)):
        est.forget(table[rows])
        assert est.unlearning_report_.parameters_moved
        assert est.unlearning_report_.step_norm < 5
    assert est.score(table, sides) > before - 0.1


def test_dropout_is_off_while_forgetting():
    module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    est = classifier(module).fit(table, sides)
    twin = copy.deepcopy(est)
    torch.manual_seed(1)
    est.forget(table[:3])
    torch.manual_seed(2)
    twin.forget(table[:3])
    assert np.array_equal(parameters(est), parameters(twin))


@pytest.mark.gpu
@pytest.mark.parametrize("module", [Cnn])
def test_cnn_on_a_gpu(module):
    est = classifier(module).set_params(device="cuda").fit(images, shapes)
    est.forget(images[:4]).forget(images[4:8])
    assert np.isfinite(est.predict_proba(images)).all()
    assert pickle.loads(pickle.dumps(est)).predict(images).shape == (48,)


@pytest.mark.gpu
def test_lstm_on_a_gpu():
    words = rng.integers(10, size=(40, 6))
    est = classifier(Reader).set_params(device="cuda").fit(words, words[:, 0] > 4).forget(words[:3])
    assert est.unlearning_report_.parameters_moved
