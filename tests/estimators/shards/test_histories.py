"""Whatever was asked of it before, a model of many shards is bit for bit what fit makes of the rows that are left."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.risks.empirical import flat_parameters
from tests._problems import Mlp, skorch_net

VERBS = ("forget", "settle", "correct", "relabel", "partial_fit", "retrain")


class Told:
    """Plain rows beside a model, changed as the model is asked to change."""

    def __init__(self, rng, n_slices, by_id):
        self.rng, self.by_id = rng, by_id
        net = skorch_net(Mlp, max_epochs=1, batch_size=8, lr=0.3, module__n_hidden=2)
        self.model = ShardedClassifier(
            UnlearnableClassifier(net), 3, n_slices, random_state=int(rng.integers(1000))
        )  # fmt: skip
        self.X, self.y = rng.normal(size=(14, 2)).astype(np.float32), np.r_[0, 1, rng.integers(0, 2, size=12)]
        self.person = np.arange(14) // 2
        # Shards that have had a pass over new rows, and were not trained anew since.
        self.passed = set()
        self.model.fit(self.X, self.y, **self.ids)

    @property
    def ids(self):
        return {"sample_id": self.person} if self.by_id else {}

    def homes(self, at):
        return set(self.model.sharded_state_.shard_of(self.X[at], self.person[at] if self.by_id else None).tolist())

    def some(self):
        """Rows of a few persons, never of the first, whose rows have both labels."""
        others = np.unique(self.person[self.person > 0])
        chosen = self.rng.choice(others, size=min(len(others), self.rng.integers(1, 3)), replace=False)
        return np.flatnonzero(np.isin(self.person, chosen))

    def forget(self):
        at = self.some()
        if not len(at):
            return
        self.passed -= self.homes(at)
        self.model.forget(**self.named(at))
        self.leave_out(at)

    def settle(self):
        at = self.some()
        if not len(at):
            return
        self.passed -= self.homes(at)
        self.model.request_forget(**self.named(at))
        dropped = self.model.request_forget(**self.named(np.arange(2)))
        self.model.cancel_request(dropped).settle()
        self.leave_out(at)

    def correct(self):
        if not self.by_id:
            return  # a row that is found by its content stays in the shard of what it had been
        at = self.some()[:1]
        if len(at):
            new = self.rng.normal(size=(1, 2)).astype(np.float32)
            self.passed -= self.homes(at)
            self.model.correct(self.X[at], X_new=new)
            self.X[at] = new

    def relabel(self):
        at = self.some()[:1]
        if len(at):
            self.passed -= self.homes(at)
            self.model.correct(self.X[at], y_old=self.y[at], y_new=1 - self.y[at])
            self.y[at] = 1 - self.y[at]

    def partial_fit(self):
        new = np.arange(len(self.X), len(self.X) + 3)
        self.X = np.concatenate([self.X, self.rng.normal(size=(3, 2)).astype(np.float32)])
        self.y = np.concatenate([self.y, self.rng.integers(0, 2, size=3)])
        fresh = self.person.max() + 1  # one new person, and one who is known or has been
        self.person = np.concatenate([self.person, [fresh, fresh, self.rng.integers(1, fresh)]])
        more = {"sample_id": self.person[new]} if self.by_id else {}
        self.model.partial_fit(self.X[new], self.y[new], **more)
        self.passed |= self.homes(new)

    def retrain(self):
        self.model.retrain()
        self.passed = set()

    def named(self, at):
        return {"sample_id": np.unique(self.person[at])} if self.by_id else {"X_del": self.X[at]}

    def leave_out(self, at):
        self.X, self.y, self.person = (np.delete(each, at, axis=0) for each in (self.X, self.y, self.person))

    def check(self):
        fresh = clone(self.model).fit(self.X, self.y, **self.ids)
        for number, (one, other) in enumerate(zip(self.model.estimators_, fresh.estimators_, strict=True)):
            assert (one is None) == (other is None)
            if one is None:
                continue
            np.testing.assert_array_equal(one.training_set_.X, other.training_set_.X)
            np.testing.assert_array_equal(one.training_set_.y, other.training_set_.y)
            if number not in self.passed:
                assert torch.equal(flat_parameters(one.net_), flat_parameters(other.net_))
                kept, anew = ([each.number for each in m.unlearning_state_.slices] for m in (one, other))
                assert kept == anew
        if not self.passed:
            assert np.array_equal(self.model.predict_proba(self.X), fresh.predict_proba(self.X))


@given(
    seed=st.integers(0, 2**32 - 1),
    n_slices=st.sampled_from([1, 3]),
    by_id=st.booleans(),
    verbs=st.lists(st.sampled_from(VERBS), min_size=2, max_size=4),
)
@settings(max_examples=5, deadline=None)
def test_any_history_ends_where_a_fresh_fit_does(seed, n_slices, by_id, verbs):
    told = Told(np.random.default_rng(seed), n_slices, by_id)
    for verb in verbs:
        getattr(told, verb)()
    told.check()
