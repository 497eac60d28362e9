"""Parts of the net that are frozen after training, or before it by a callback."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Freezer
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.unlearners import FineTune, LBFGSWarmStart, Retrain
from tests._problems import skorch_net

rng = np.random.default_rng(5)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


class BodyAndHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(3, 6), nn.Tanh()), nn.Linear(6, 2)

    def forward(self, X):
        return self.head(self.body(X))


def net(**settings):
    return skorch_net(BodyAndHead, max_epochs=5, lr=0.3, batch_size=16, **settings)


def numbers(est):
    parameters = torch.cat([p.detach().reshape(-1) for p in est.net_.module_.parameters()])
    return parameters.numpy().copy(), len(est.training_set_), len(est.unlearning_history_)


def refused(est, match, verb="forget", rows=(X[:4],)):
    before = numbers(est)
    with pytest.raises(ValueError, match=match):
        getattr(est, verb)(*rows)
    for old, new in zip(before, numbers(est), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("unlearner", [None, Retrain(), FineTune(), LBFGSWarmStart()])
def test_trained_parts_that_were_frozen_since(unlearner):
    est = UnlearnableClassifier(net(), unlearner, random_state=0).fit(X, y)
    est.net_.module_.body.requires_grad_(False)
    refused(est, r"frozen parameters that were trained \(body.0.weight, body.0.bias\).*requires_grad_\(True\)")
    est.net_.module_.body.requires_grad_(True)
    assert len(est.forget(X[:4]).training_set_) == 56


def test_rows_that_are_handed_in_and_rows_that_are_corrected():
    est = UnlearnableClassifier(net(), random_state=0).fit(X, y)
    est.net_.module_.head.requires_grad_(False)
    refused(est, "frozen parameters that were trained", "partial_forget", (X[:4], y[:4]))
    refused(est, "frozen parameters that were trained", "retrain", ())


def test_learning_on_with_a_part_frozen_does_not_hide_what_the_rest_had_learnt():
    est = UnlearnableClassifier(net(), random_state=0).fit(X[:50], y[:50])
    est.net_.module_.body.requires_grad_(False)
    est.partial_fit(X[50:], y[50:])
    refused(est, "frozen parameters that were trained")
    est.net_.module_.body.requires_grad_(True)
    assert len(est.forget(X[:4]).training_set_) == 56


def test_frozen_parts_that_were_released_since():
    est = UnlearnableClassifier(net(callbacks=[Freezer("body*")]), random_state=0).fit(X, y)
    est.net_.module_.body.requires_grad_(True)
    refused(est, r"trainable parameters that were frozen in training \(body.0.weight, body.0.bias\)")


@pytest.mark.parametrize("unlearner", [None, Retrain(), FineTune(), LBFGSWarmStart()])
def test_parts_that_a_callback_freezes_stay_frozen(unlearner):
    est = UnlearnableClassifier(net(callbacks=[Freezer("body*")]), unlearner, random_state=0).fit(X, y)
    body = est.net_.module_.body[0].weight.clone()
    assert len(est.forget(X[:4]).training_set_) == 56
    # Retraining begins at the same seed, so that it has the same frozen part.
    assert torch.equal(est.net_.module_.body[0].weight, body)
    assert not est.net_.module_.body[0].weight.requires_grad


def adopted(unlearner, **settings):
    trained = net(**settings).fit(X, y)
    trained.module_.body.requires_grad_(False)
    return UnlearnableClassifier.from_fitted(trained, X, y, unlearner=unlearner, random_state=0)


def test_an_adopted_net_that_a_training_anew_would_not_freeze():
    refused(adopted(Retrain()), r"builds anew trains parameters that are frozen.*body.0.weight.*before from_fitted")
    refused(adopted(None), "builds anew trains parameters", "retrain", ())


def test_an_adopted_net_that_a_callback_froze_can_be_trained_anew():
    assert len(adopted(Retrain(), callbacks=[Freezer("body*")]).forget(X[:4]).training_set_) == 56


def test_an_adopted_instance_keeps_its_frozen_part():
    module = BodyAndHead()
    module.body.requires_grad_(False)
    trained = skorch_net(module, max_epochs=5, lr=0.3).fit(X, y)
    est = UnlearnableClassifier.from_fitted(trained, X, y, unlearner=Retrain(), random_state=0).forget(X[:4])
    assert torch.equal(est.net_.module_.body[0].weight, module.body[0].weight)


@pytest.mark.parametrize("unlearner", [None, FineTune(), LBFGSWarmStart()])
def test_an_adopted_net_is_tuned_where_it_is_trainable(unlearner):
    est = adopted(unlearner)
    before = copy.deepcopy(est.net_.module_.state_dict())
    est.forget(X[:4])
    after = est.net_.module_.state_dict()
    assert torch.equal(after["body.0.weight"], before["body.0.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_an_estimator_of_an_earlier_version_that_knows_no_names():
    est = UnlearnableClassifier(net(), random_state=0).fit(X, y)
    vars(est.unlearning_state_).pop("trainable")
    assert len(est.forget(X[:4]).training_set_) == 56
