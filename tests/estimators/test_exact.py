"""What a certificate of exactness rests on, and how it goes with those of other requests."""

import dataclasses

import numpy as np
import pytest
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.privacy import Certificate, compose_certificates
from sk_unlearn.unlearners import CuReNU, FineTune, Retrain, StoCuReNU
from tests._problems import Mlp, mlp, parameters, skorch_net

rng = np.random.default_rng(2)
X = rng.normal(size=(120, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def net(module=Mlp, **settings):
    return skorch_net(module, **({"max_epochs": 6, "batch_size": 16, "lr": 0.1} | settings))


def forgetful(given, share=0.5, rows=slice(60, 70), random_state=0):
    est = UnlearnableClassifier(given, Retrain(share), random_state=random_state).fit(X, y)
    return est.forget(X[rows])


def failing(est):
    """What was found not to hold, or is not known, by its first words."""
    return {each.statement: each.checked for each in est.certificate_.assumptions if not each.checked}


WEIGHTS = "the initial weights come from the seed"
SEED = "the seed knows nothing of the rows"
MEMORY = "the net and its callbacks remember nothing of rows that have gone"
CLASSES = "the classes are those of the rows that stay"
SCHEDULE = "the rates and the number of epochs of fit were fixed before"


FILES = ("f_params", "f_optimizer", "f_criterion", "f_history")


class Halves(Callback):
    """Lowers the rate by a rule of its own."""

    def on_epoch_end(self, net, **kwargs):
        net.optimizer_.param_groups[0]["lr"] *= 0.5


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_all_is_checked_where_all_is_known(share):
    est = forgetful(net(callbacks=[("schedule", LRScheduler("StepLR", step_size=2))]), share)
    assert failing(est) == {}
    assert est.certificate_.proven
    assert ("0.5 of the steps" in est.certificate_.method) == (share == 0.5)
    assert est.unlearning_report_.to_dict()["certificate"]["kind"] == "exact"


CASES = {
    "a module that was handed in": (net(mlp(4, 3, 5)), {WEIGHTS: None}, {WEIGHTS: None}),
    "a callback of one's own": (net(callbacks=[Halves()]), {MEMORY: None, SCHEDULE: None}, {MEMORY: None}),
    "early stopping": (
        net(callbacks=[EarlyStopping(monitor="train_loss", patience=1, threshold=10.0)]), {SCHEDULE: False}, {},
    ),
    "early stopping at its best": (
        net(callbacks=[EarlyStopping(patience=1, threshold=10.0, load_best=True)], train_split=ValidSplit(4)),
        {SCHEDULE: False}, {},
    ),
    "the best parameters": (
        net(callbacks=[Checkpoint(load_best=True, **dict.fromkeys(FILES))], train_split=ValidSplit(4)), {}, {},
    ),
    "early stopping that did not stop": (net(callbacks=[EarlyStopping(monitor="train_loss")]), {SCHEDULE: False}, {}),
    "a plateau": (
        net(callbacks=[LRScheduler("ReduceLROnPlateau", monitor="valid_loss")], train_split=ValidSplit(4)),
        {SCHEDULE: False}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_known_or_does_not_hold_is_listed(case):
    given, shortened, full = CASES[case]
    assert failing(forgetful(given)) == shortened
    assert failing(forgetful(given, 1.0)) == full


@pytest.mark.parametrize("unlearner", [Retrain(0.5), Retrain(), StoCuReNU(renew=True)])
@pytest.mark.parametrize("load_best", [True, False])
def test_the_report_says_that_the_number_of_epochs_was_chosen_with_the_erased_rows(unlearner, load_best):
    stopping = EarlyStopping(patience=1, threshold=10.0, load_best=load_best)
    est = UnlearnableClassifier(net(callbacks=[stopping], train_split=ValidSplit(4)), unlearner, random_state=0)
    n_epochs = len(est.fit(X, y).net_.history)
    assert n_epochs < 6
    est.forget(X[20:40])  # of which some were trained on, and others held out
    said = [note for note in est.unlearning_report_.notes if "after which a callback ended" in note]
    if unlearner.get_params().get("share") == 1:
        assert not said
    else:
        assert [f"follows the {n_epochs} epochs" in note for note in said] == [True]


def test_a_class_that_leaves_and_a_seed_that_is_not_given():
    assert failing(forgetful(net(), rows=y == 2)) == {CLASSES: False}
    assert failing(forgetful(net(), random_state=None)) == {SEED: None}
    assert failing(forgetful(mlp(4, 3, 5))) == {WEIGHTS: None}


def test_after_an_exact_request_earlier_ones_are_exact_and_later_ones_are_not():
    est = UnlearnableClassifier(net(), CuReNU(max_steps=1), random_state=0).fit(X, y).forget(X[:5])
    with pytest.raises(AttributeError, match="There is no certificate_"):
        est.certificate_  # noqa: B018  reading it is what raises
    est.set_params(unlearner=Retrain(0.5)).forget(X[5:10])
    assert est.certificate_.n_requests == 2
    assert "after 2 requests" in str(est.certificate_)
    assert est.unlearning_report_.certificate.n_requests == 1
    direct = UnlearnableClassifier(net(), Retrain(0.5), random_state=0).fit(X, y).forget(X[:10])
    np.testing.assert_array_equal(parameters(est), parameters(direct))
    est.set_params(unlearner=FineTune()).forget(X[10:12])
    with pytest.raises(AttributeError, match="There is no certificate_"):
        est.certificate_  # noqa: B018  reading it is what raises


def test_noise_since_an_exact_request_is_composed_without_it():
    exact = forgetful(net()).certificate_
    noisy = Certificate("by hand", bound=1.0, epsilon=4.38, delta=1e-5, sigma=1.0, noise="output")
    together = compose_certificates([noisy, exact, noisy, noisy])
    assert together.kind == "distance"
    assert together.n_requests == 2


def test_parameters_other_than_those_of_the_training_are_not_certified():
    class Nudged(Retrain):
        def unlearn(self, problem):
            result = super().unlearn(problem)
            return dataclasses.replace(result, parameters=result.parameters + 1e-3)

    est = UnlearnableClassifier(net(), Nudged(), random_state=0).fit(X, y).forget(X[:5])
    assert est.unlearning_report_.certificate is None


def test_a_share_is_for_a_training_from_the_start():
    class Warm(Retrain):
        def unlearn(self, problem):
            return problem.retrain(warm=True, share=0.5)

    est = UnlearnableClassifier(net(), Warm(), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="share is of a training from the start"):
        est.forget(X[:5])
    assert len(est.training_set_) == len(X)
