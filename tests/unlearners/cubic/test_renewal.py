"""Training the whole network anew: when the default does it, what comes of it, and what it says where it cannot."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_regression
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import Retrain, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy
from tests._problems import skorch_net

MANY, SOME = np.arange(0, 400, 3), np.arange(0, 400, 10)
FEW = 64  # rows that a step would read: fewer than there are, so that no steps in the whole network come first


class Net(nn.Module):
    """Hidden layers that have most of the tangent kernel: the rows lie far from the origin."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features_in, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, n_outputs)
        )

    def forward(self, X):
        return self.body(X)


class Scaled(Net):
    def forward(self, X):
        return 0.5 * self.body(X)


class Normed(Net):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.body = nn.Sequential(nn.Linear(n_features_in, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_outputs))


class Sum(nn.Module):
    """Cross-entropy by hand, which the package cannot know to take probabilities."""

    def forward(self, outputs, y):
        return -outputs.log_softmax(1)[torch.arange(len(y)), y].mean()


def classes(n=400, seed=0):
    X, y = make_blobs(n, 4, centers=4, cluster_std=6.0, random_state=seed)
    return X.astype(np.float32), y


def net(module=Net, *, max_epochs=40, **settings):
    # A rate that falls to zero leaves little of the gradient, beside which a class is a large request.
    cosine = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=max_epochs)
    defaults = {
        "optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.02, "batch_size": 20,
        "max_epochs": max_epochs, "iterator_train__shuffle": True, "callbacks": [("cosine", cosine)],
    }  # fmt: skip
    return skorch_net(module, **(defaults | settings))


def unlearner(renew="auto", **settings):
    return StoCuReNU(renew=renew, n_gradient_rows=FEW, **settings)


@pytest.fixture(scope="module")
def fitted():
    X, y = classes()
    return UnlearnableClassifier(net(), random_state=0).fit(X, y), X, y


def forgotten(fitted, erased, used=None):
    est, X, y = fitted
    est = copy.deepcopy(est).set_params(unlearner=unlearner() if used is None else used)
    return est.forget(X[erased], y[erased])


def parameters(est):
    return flat_parameters(est.net_)


def told(est):
    return est.unlearning_report_.extra


class TestWhen:
    def test_a_class_that_goes_is_trained_without(self, fitted):
        est = forgotten(fitted, fitted[2] == 2)
        report = est.unlearning_report_
        assert (report.status, told(est)["renewal"]) == ("completed", "labels")
        assert told(est)["share_of_training"] == pytest.approx(0.2)
        assert 0 < told(est)["output_layer_share"] < 0.6
        assert "tangent kernel" in told(est)["renewal_reason"]
        assert "trained anew towards the labels in 0.2 of the steps, because" in report.stop_reason
        assert any(note.startswith("Trained anew in 20% of the steps") for note in report.notes)
        assert est.certificate_.kind == "exact"
        assert "does not depend on the erased rows" in str(est.certificate_)
        assert not est.certificate_.proven
        assert report.trace == []
        # The net knows nothing of the rows; that it was chosen does.
        assert [each.checked for each in est.certificate_.assumptions if "choice" in each.statement] == [False]

    def test_without_an_output_layer_no_share_of_it_is_told(self):
        X, y = classes()
        est = UnlearnableClassifier(net(Scaled), random_state=0).fit(X, y)
        est = forgotten((est, X, y), y == 2)
        assert told(est)["renewal_reason"] == "the net has no output layer that could be moved on its own"
        assert np.isnan(told(est)["output_layer_share"])
        assert len(est.receipts_) == 1

    @pytest.mark.parametrize("erased", [np.arange(1), SOME])
    def test_a_training_of_few_steps_is_done_again_in_full(self, erased):
        X, y = classes()
        est = UnlearnableClassifier(net(max_epochs=4), random_state=0).fit(X, y)  # 80 steps
        fitted = est, X, y
        default, retrained = (forgotten(fitted, erased, used) for used in (StoCuReNU(), Retrain()))
        assert torch.equal(parameters(default), parameters(retrained))
        assert (default.certificate_.kind, told(default)["share_of_training"]) == ("exact", 1.0)
        assert "trained anew towards the labels in full, because" in default.unlearning_report_.stop_reason
        assert not any("of the steps" in note for note in default.unlearning_report_.notes)
        # Where steps read a sample they are the cheaper way, and renew=False asks for them.
        for used in (unlearner(), StoCuReNU(renew=False)):
            assert not torch.equal(parameters(forgotten(fitted, erased, used)), parameters(retrained))

    def test_corrected_rows_count_in_how_long_the_training_anew_is(self):
        X, y = classes()
        for n_epochs, share in ((5, 1.0), (6, 0.0)):  # 100 and 120 steps
            est = UnlearnableClassifier(net(max_epochs=n_epochs), random_state=0).fit(X, y)
            est.correct(X[MANY], y_old=y[MANY], y_new=(y[MANY] + 1) % 4)
            assert told(est)["share_of_training"] == share

    def test_how_long_the_training_anew_is_counts_and_not_the_one_before(self):
        X, y = classes()
        fitted = UnlearnableClassifier(net(max_epochs=6), random_state=0).fit(X, y), X, y  # 120 steps
        shares = [told(forgotten(fitted, rows, StoCuReNU()))["share_of_training"] for rows in (SOME, MANY)]
        assert shares == [0.0, 1.0]

    def test_it_is_what_a_shorter_training_gives(self, fitted):
        erased = fitted[2] == 2
        one, other = forgotten(fitted, erased), forgotten(fitted, erased, Retrain(share=0.2))
        assert torch.equal(parameters(one), parameters(other))

    def test_rows_at_random_are_unlearnt_from_a_teacher(self, fitted):
        est = forgotten(fitted, MANY)
        assert told(est)["renewal"] == "teacher"
        assert est.unlearning_report_.certificate is None
        assert any("may pass on traces of the rows" in note for note in est.unlearning_report_.notes)

    def test_a_net_that_differs_on_all_rows_alike_is_set_aside(self, fitted):
        est, alone = forgotten(fitted, SOME), forgotten(fitted, SOME, unlearner(False))
        assert (told(est)["renewal"], told(est)["share_of_training"]) == ("no", pytest.approx(0.2))
        assert "times as much as for the retained ones" in told(est)["renewal_reason"]
        (note,) = [note for note in est.unlearning_report_.notes if "set aside" in note]
        assert told(est)["renewal_reason"] in note
        # What stands in its place is what steps come to without it.
        assert torch.equal(parameters(est), parameters(alone))
        assert est.unlearning_report_.status == alone.unlearning_report_.status
        assert told(forgotten(fitted, SOME, unlearner(policy=Policy(apart=0.0))))["renewal"] == "teacher"

    def test_a_net_that_did_not_learn_the_others_is_set_aside(self, fitted):
        strict = Policy(loss_rise=0.5, loss_left=0.0)
        est = forgotten(fitted, MANY, unlearner(policy=strict))
        assert told(est)["renewal"] == "no"
        assert "did not learn the retained rows" in told(est)["renewal_reason"]
        # Not asked where the rows are most of what the gradient knew.
        gone, doubtful = fitted[2] == 2, replace(strict, outweighing=0.0)
        assert told(forgotten(fitted, gone, unlearner(policy=strict)))["renewal"] == "labels"
        assert told(forgotten(fitted, gone, unlearner(policy=doubtful)))["renewal"] == "no"

    def test_one_row_is_too_small_a_request(self, fitted):
        est = forgotten(fitted, [7])
        assert (told(est)["renewal"], told(est)["share_of_training"]) == ("no", 0.0)
        assert told(est)["renewal_reason"] == "it is one row"
        assert torch.equal(parameters(est), parameters(forgotten(fitted, [7], unlearner(False))))

    def test_what_was_to_be_undone_is_not_kept_as_it_is(self, fitted):
        # Its exact norm would confirm a guess at what the rows were.
        never = unlearner(policy=Policy(apart=float("inf")))
        kept = {forgotten(fitted, slice(k, k + 40), never).unlearning_state_.set_aside_at for k in range(12)}
        assert all(float(np.log2(each**2)) == pytest.approx(round(np.log2(each**2)), abs=1e-9) for each in kept)
        assert len(kept) < 12

    def test_what_a_net_set_aside_would_have_undone_is_not_tried_again(self, fitted):
        est, X, y = fitted
        never = unlearner(policy=Policy(apart=float("inf"), since_set_aside=3.0, outweighing=0.0))
        est, shares, reasons = copy.deepcopy(est).set_params(unlearner=never), [], []
        for k in range(0, 60, 6):
            est.forget(X[k : k + 6], y[k : k + 6])
            shares.append(told(est)["share_of_training"])
            reasons.append(told(est)["renewal_reason"])
        assert shares[0] == pytest.approx(0.2)
        assert sum(share > 0 for share in shares) <= 4
        assert any("than when a net that was trained anew was set aside" in reason for reason in reasons)

    def test_rows_that_bring_little_are_too(self, fitted):
        est = forgotten(fitted, [7, 8], unlearner(policy=Policy(small_request=0.5)))
        assert (told(est)["renewal"], told(est)["share_of_training"]) == ("no", 0.0)
        assert "of what training had left there" in told(est)["renewal_reason"]

    def test_small_requests_add_up_until_one_trains_anew(self, fitted):
        est, X, y = fitted
        used = unlearner(policy=Policy(small_request=1.0, apart=0.0, loss_left=float("inf")))
        est, rows = copy.deepcopy(est).set_params(unlearner=used), np.flatnonzero(y == 2)
        chosen = []
        while True not in chosen[:-1]:
            part, rows = rows[:4], rows[4:]
            est.forget(X[part], y[part])
            chosen.append(told(est)["renewal"] != "no")
        # Each alone is too small, the first and the one after the sum was settled: it starts anew.
        assert chosen[0] is chosen[-1] is False
        assert len(chosen) > 3
        assert told(forgotten(fitted, part, used))["renewal"] == "no"

    def test_a_net_that_was_set_aside_is_not_trained_again_for_the_next_row(self, fitted):
        est, X, y = fitted
        never = unlearner(policy=Policy(small_request=1.0, one_of_many=1.5, apart=float("inf"), outweighing=0.0))
        est, rows = copy.deepcopy(est).set_params(unlearner=never), np.flatnonzero(y == 2)
        shares = []
        while not any(shares[:-1]):
            part, rows = rows[:1], rows[1:]
            est.forget(X[part], y[part])
            shares.append(told(est)["share_of_training"])
        assert (shares[0], shares[-1]) == (0.0, 0.0)
        assert told(est)["renewal"] == "no"

    def test_not_where_the_output_layer_is_all_there_is(self):
        X, y = classes()
        linear = UnlearnableClassifier(net(nn.Linear(4, 4)), random_state=0).fit(X, y)
        est = forgotten((linear, X, y), SOME)
        assert (told(est)["renewal"], told(est)["output_layer_share"]) == ("no", pytest.approx(1.0))
        assert told(est)["share_of_training"] == 0
        assert "100% of the tangent kernel is the output layer's" in told(est)["renewal_reason"]

    def test_not_in_a_handful_of_steps(self, fitted):
        X, y = fitted[1:]
        short = UnlearnableClassifier(net(max_epochs=4), random_state=0).fit(X, y)
        est = forgotten((short, X, y), y == 2)
        assert told(est)["renewal"] == "no"
        assert told(est)["renewal_reason"] == "16 steps are too few to train in"

    def test_where_all_rows_are_read_a_smaller_share_of_the_output_layer_is_enough(self, fitted):
        erased = fitted[2] == 2
        steps = forgotten(fitted, erased, StoCuReNU(policy=Policy(output_share_of_all=0.0)))
        assert told(steps)["renewal_reason"].endswith("of the tangent kernel is the output layer's")
        assert (told(steps)["renewal"], told(steps)["share_of_training"]) == ("no", 0.0)
        anew = forgotten(fitted, erased, StoCuReNU(policy=Policy(output_share=0.0, output_share_of_all=1.0)))
        assert told(anew)["renewal"] == "labels"
        assert anew.unlearning_report_.trace == []
        assert anew.certificate_.kind == "exact"

    def test_steps_follow_where_all_rows_are_read_and_the_net_is_set_aside(self, fitted):
        never = Policy(output_share_of_all=1.0, apart=float("inf"), outweighing=0.0)
        est = forgotten(fitted, MANY, StoCuReNU(policy=never))
        alone = forgotten(fitted, MANY, StoCuReNU(renew=False))
        assert "times as much as for the retained ones" in told(est)["renewal_reason"]
        assert torch.equal(parameters(est), parameters(alone))


class TestNothingToUndo:
    @pytest.mark.parametrize("renew", ["auto", True])
    def test_a_correction_that_corrects_nothing(self, fitted, renew):
        est, X, y = fitted
        est = copy.deepcopy(est).set_params(unlearner=unlearner(renew))
        before = parameters(est)
        est.correct(X[:50], y_old=y[:50], y_new=y[:50])
        assert torch.equal(parameters(est), before)
        assert est.unlearning_report_.status == "nothing_to_undo"
        assert est.unlearning_report_.certificate is None

    @pytest.mark.parametrize("renew", ["auto", True])
    def test_rows_that_took_no_part(self, renew):
        X, y = classes()
        weight = np.r_[np.zeros(40), np.ones(360)]
        est = UnlearnableClassifier(net(), unlearner(renew), random_state=0).fit(X, y, weight)
        before = parameters(est)
        est.forget(X[:40], y[:40])
        assert torch.equal(parameters(est), before)


class TestAskedFor:
    @pytest.mark.parametrize("erased", [[7], slice(0, 40)])
    def test_true_trains_anew_whatever_is_asked(self, fitted, erased):
        est = forgotten(fitted, erased, unlearner(True))
        assert told(est)["renewal"] in ("labels", "teacher")
        assert told(est)["renewal_reason"] == "renew=True asks for it"

    @pytest.mark.parametrize("renew", [False, np.False_])
    def test_false_never_does(self, fitted, renew):
        est = forgotten(fitted, fitted[2] == 2, unlearner(renew))
        assert "renewal" not in told(est)
        assert est.unlearning_report_.trace != []

    def test_budget(self, fitted):
        est = forgotten(fitted, fitted[2] == 2, unlearner(budget=0.5))
        assert told(est)["share_of_training"] == pytest.approx(0.4)
        est = forgotten(fitted, fitted[2] == 2, Retrain(share=0.4))
        assert torch.equal(parameters(est), parameters(forgotten(fitted, fitted[2] == 2, unlearner(budget=0.5))))

    def test_steps_that_were_given_up_count(self):
        X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        y = X @ np.ones((4, 1), np.float32)
        # Five times its rate diverges.
        settings = {"criterion": nn.MSELoss, "batch_size": -1, "lr": 0.3, "optimizer__momentum": 0.0, "callbacks": []}
        steep = UnlearnableRegressor(net(nn.Linear(4, 1), kind=NeuralNetRegressor, **settings), random_state=0)
        fitted = (steep.fit(X, y), X, y)
        asked = unlearner(True, policy=Policy(outweighing=float("inf")))
        far, again = forgotten(fitted, SOME[:10], asked), forgotten(fitted, SOME[:10], Retrain(share=0.2))
        assert torch.equal(parameters(far), parameters(again))
        assert told(far)["share_of_training"] == told(again)["share_of_training"] > 0.2
        for est in (far, again):
            assert any("training on the retained rows led nowhere" in note for note in est.unlearning_report_.notes)

    def test_no_fewer_steps_than_one(self, fitted):
        est = forgotten(fitted, slice(0, 360), unlearner(True, budget=0.01))
        assert told(est)["share_of_training"] == 1 / (2 * 40)

    @pytest.mark.parametrize("setting", [{"renew": "always"}, {"budget": 1.5}, {"budget": -0.1}])
    def test_refused(self, fitted, setting):
        with pytest.raises(ValueError, match=next(iter(setting))):
            forgotten(fitted, [1], StoCuReNU(**setting))

    def test_cloned_and_searched(self):
        assert clone(StoCuReNU(renew=False, budget=0.5)).get_params()["budget"] == 0.5
        X, y = classes(160)
        est = UnlearnableClassifier(net(max_epochs=8), StoCuReNU(n_gradient_rows=FEW), random_state=0)
        grid = {"unlearner__renew": [False, True], "unlearner__budget": [0.5]}
        search = ForgetSearchCV(est, grid, cv=2).fit(X, y)
        assert set(search.best_params_) == set(grid)


class TestSameNumbers:
    @pytest.mark.parametrize("erased", [MANY, "class"])
    def test_twice(self, fitted, erased):
        erased = fitted[2] == 2 if isinstance(erased, str) else erased
        assert torch.equal(parameters(forgotten(fitted, erased)), parameters(forgotten(fitted, erased)))

    def test_nothing_of_the_rows_is_in_a_net_trained_towards_labels(self, fitted):
        X, y = fitted[1:]
        erased = y == 2
        noise = X.copy()
        noise[erased] = np.random.default_rng(5).normal(10, 3, noise[erased].shape)
        other = UnlearnableClassifier(net(), random_state=0).fit(noise, y)
        assert not torch.equal(parameters(other), parameters(fitted[0]))
        asked = unlearner(True, policy=Policy(outweighing=float("inf")))
        one, two = forgotten(fitted, erased, asked), forgotten((other, noise, y), erased, asked)
        assert torch.equal(parameters(one), parameters(two))


def test_rows_that_a_taught_net_did_not_read_are_forgotten_later_all_the_same():
    X, y = classes()
    est = UnlearnableClassifier(net(max_epochs=2), random_state=0).fit(X, y)
    after = forgotten((est, X, y), slice(0, 40), unlearner(True))  # in 8 of 40 steps: more than half are not read
    assert told(after)["renewal"] == "teacher"
    # The teacher had learnt from all of them.
    after.forget(X[40:240], y[40:240])
    assert after.unlearning_report_.n_trained_erased == 200


class TwoOutputs(nn.Module):
    """An embedding whose rows are released when only erased rows used them, and two tensors as output."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 4), nn.Linear(4, 3)

    def forward(self, X):
        outputs = self.head(self.embedding(X[:, 0].long()).relu())
        return outputs, outputs[:, :1]


class OfTheFirst(nn.CrossEntropyLoss):
    def forward(self, outputs, y):
        return super().forward(outputs[0], y)


class OfTwo(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return self.criterion_(y_pred, y_true)


def test_a_module_with_two_outputs_is_not_trained_anew():
    ids = np.random.default_rng(0).integers(0, 45, 3000)
    ids[:500] = 49
    X, y = ids[:, None].astype(np.float32), np.where(ids == 49, 1 + np.arange(3000) % 2, ids % 3)
    kind = {"kind": OfTwo, "criterion": OfTheFirst, "optimizer": torch.optim.Adam}
    settings = {"lr": 0.01, "batch_size": 64, "max_epochs": 15}
    est = UnlearnableClassifier(skorch_net(TwoOutputs, **kind, **settings), random_state=0).fit(X, y)
    asked = copy.deepcopy(est).set_params(unlearner=StoCuReNU(renew=True))
    for each in (est, asked):
        each.forget(X[:500])
    assert any(note.startswith("Release: ") for note in est.unlearning_report_.notes)
    assert told(est)["renewal"] == "no"
    assert "does not return one tensor" in told(est)["renewal_reason"]
    assert told(asked)["renewal"] == "labels"


class TestOtherLossesAndVerbs:
    def test_regression(self):
        X, y = make_regression(400, 4, noise=5.0, random_state=0)
        X, y = X.astype(np.float32), (y / y.std()).astype(np.float32)
        est = UnlearnableRegressor(net(kind=NeuralNetRegressor, criterion=nn.MSELoss, lr=0.005), random_state=0)
        fitted = (est.fit(X, y), X, y)
        top = forgotten(fitted, y > np.quantile(y, 0.9), unlearner(True))
        assert told(top)["renewal"] in ("labels", "teacher")
        assert top.score(X, y) > 0.5
        assert told(forgotten(fitted, slice(0, 40), unlearner(True)))["renewal"] == "teacher"

    def test_a_teacher_without_an_output_layer_is_the_fitted_net(self):
        X, y = make_regression(300, 6, random_state=0)
        est = UnlearnableRegressor(unlearner=unlearner(True), random_state=0).fit(X, y).forget(X[::4])
        report = est.unlearning_report_
        assert told(est)["renewal"] == "teacher"
        assert "towards the predictions of the fitted net in" in report.stop_reason
        assert not any("output layer" in note for note in report.notes)

    def test_one_logit(self):
        X, y = classes()
        y = (y > 1).astype(np.float32)
        kind = {"kind": NeuralNetBinaryClassifier, "criterion": nn.BCEWithLogitsLoss}
        est = UnlearnableClassifier(net(nn.Sequential(Net(4, 1), nn.Flatten(0)), **kind), random_state=0).fit(X, y)
        after = forgotten((est, X, y), slice(0, 40), unlearner(True))
        assert told(after)["renewal"] == "teacher"
        assert after.score(X, y) > 0.7
        # There is no output layer to move alone, and no step was taken in its place.
        assert not any("all steps were taken" in note for note in after.unlearning_report_.notes)

    def test_a_loss_that_takes_no_predictions_has_labels(self):
        X, y = classes()
        est = UnlearnableClassifier(net(criterion=Sum), random_state=0).fit(X, y)
        assert told(forgotten((est, X, y), SOME, unlearner(True)))["renewal"] == "labels"

    @pytest.mark.parametrize("kind", [0.0, float("inf")])
    def test_weights(self, kind):
        X, y = classes()
        weight = 1 + (np.arange(400) % 3).astype(float)
        est = UnlearnableClassifier(net(), random_state=0).fit(X, y, weight)
        est.set_params(unlearner=unlearner(True, policy=Policy(outweighing=kind))).forget(X[:40], y[:40])
        assert told(est)["renewal"] == ("labels" if kind else "teacher")
        assert len(est.training_set_) == 360

    def test_correct(self, fitted):
        est, X, y = fitted
        est = copy.deepcopy(est).set_params(unlearner=unlearner())
        est.correct(X[:100], y_old=y[:100], y_new=(y[:100] + 1) % 4)
        assert told(est)["renewal"] == "labels"
        assert est.certificate_.kind == "exact"
        assert len(est.training_set_) == 400

    def test_few_corrected_labels_are_learnt(self):
        X, y = classes()
        wrong = np.where(np.arange(400) % 10 == 0, (y + 1) % 4, y)
        est = UnlearnableClassifier(net(), unlearner(True), random_state=0).fit(X, wrong)
        again = copy.deepcopy(est).set_params(unlearner=Retrain(share=0.2))
        for each in (est, again):
            each.correct(X[SOME], y_old=wrong[SOME], y_new=y[SOME])
        # No teacher has seen the new labels.
        assert told(est)["renewal"] == "labels"
        assert torch.equal(parameters(est), parameters(again))

    def test_rows_learnt_later_are_trained_on_too(self, fitted):
        est, X, y = fitted
        more, labels = classes(100, seed=1)
        est = copy.deepcopy(est).set_params(unlearner=unlearner()).partial_fit(more, labels)
        est.forget(X[y == 2], y[y == 2])
        assert told(est)["renewal"] in ("labels", "teacher")
        assert len(est.training_set_) == 500 - (y == 2).sum()


class TestWhereItCannotBeHad:
    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"lr": 0.01}, "find their length themselves"),
            ({}, "keep_initial=False kept no schedule"),
        ],
        ids=["LBFGS", "no initial weights"],
    )
    def test_a_note_says_why(self, settings, reason):
        X, y = classes()
        if settings:
            settings = settings | {"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 2}
            given = skorch_net(Net, batch_size=16, max_epochs=20, **settings)
            est = UnlearnableClassifier(given, random_state=0).fit(X, y)
        else:
            est = UnlearnableClassifier(net(), keep_initial=False, random_state=0).fit(X, y)
        est = forgotten((est, X, y), y == 2)
        (note,) = [note for note in est.unlearning_report_.notes if note.startswith("Training the network anew")]
        assert reason in note
        assert "renewal" not in told(est)
        with pytest.raises(ValueError, match=reason):
            forgotten((est, X[y != 2], y[y != 2]), [1], unlearner(True))

    def test_no_note_where_steps_are_right(self):
        X, y = classes()
        est = UnlearnableClassifier(net(), keep_initial=False, random_state=0).fit(X, y)
        for share, n_notes in [(0.0, 0), (1.0, 1)]:
            after = forgotten((est, X, y), y == 2, StoCuReNU(policy=Policy(output_share_of_all=share)))
            assert sum("would have been right" in note for note in after.unlearning_report_.notes) == n_notes

    def test_without_stored_rows(self):
        X, y = classes()
        est = UnlearnableClassifier(net(), unlearner(), keep_training_set=False, random_state=0).fit(X, y)
        est.partial_forget(X[y == 2], y[y == 2])
        assert "renewal" not in told(est)
        with pytest.raises(ValueError, match="keep_training_set"):
            est.set_params(unlearner=unlearner(True)).partial_forget(X[:1], y[:1])

    def test_steps_take_over_where_training_fails(self):
        X, y = classes()
        gone = np.flatnonzero(y == 2)[:79]  # 321 rows are left: a last batch of one
        est = UnlearnableClassifier(net(Normed), random_state=0).fit(X, y)
        after = forgotten((est, X, y), gone)
        (note,) = [note for note in after.unlearning_report_.notes if "training failed" in note]
        assert "steps from the fitted point" in note
        assert (told(after)["renewal"], told(after)["share_of_training"]) == ("no", pytest.approx(0.2))
        alone = forgotten((est, X, y), gone, unlearner(False))
        assert torch.equal(parameters(after), parameters(alone))
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            forgotten((est, X, y), gone, unlearner(True))
