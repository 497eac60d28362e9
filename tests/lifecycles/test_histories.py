"""Whatever happens to a model in whatever order, no erased row is in it or in any of its files again."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

import sk_unlearn
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.pipeline import Pipeline, make_pipeline
from sk_unlearn.receipts import to_json_lines, verify
from sk_unlearn.rows import SetDigest
from sk_unlearn.rows.digests import digest_rows
from sk_unlearn.unlearners import FineTune, Retrain
from tests._problems import classifier

FEWEST = 5
VERBS = ["forget", "forget", "correct", "partial_fit", "request_forget", "cancel_request", "settle", "retrain"]
CARRIED = ["save", "pickle", "keep a copy", "restore the copy"]


def net(unlearner):
    return classifier(unlearner, module__n_hidden=3, max_epochs=1, lr=0.1, batch_size=8)


# ------------------------------------------------------------------------------------------------------------- subjects


class Estimator:
    """One estimator over numbers."""

    with_ids = True

    def __init__(self, unlearner):
        self.model = net(unlearner)

    def table(self, contents):
        return np.array([[age, income] for age, income, _ in contents], dtype=np.float32)

    def parts(self, model):
        return [model]

    def forget(self, model, X, ids):
        model.forget(X, sample_id=ids)


class MixedPipeline(Estimator):
    """A pipeline over numbers, some of them missing, and words."""

    keep_raw = True

    def __init__(self, unlearner):
        numbers = sklearn_pipeline(SimpleImputer(), StandardScaler())
        words = OneHotEncoder(sparse_output=False)
        table = ColumnTransformer([("a", numbers, ["age"]), ("b", MinMaxScaler(), ["income"]), ("c", words, ["town"])])
        self.model = Pipeline([("table", table), ("net", net(unlearner))], keep_raw=self.keep_raw)

    def table(self, contents):
        return pd.DataFrame(contents, columns=["age", "income", "town"])


class CountingPipeline(MixedPipeline):
    """The same, which keeps counts and no raw rows."""

    keep_raw = False


class Vote(Estimator):
    """An ensemble of an estimator and a pipeline, over numbers."""

    with_ids = False

    def __init__(self, unlearner):
        pipe = make_pipeline(StandardScaler(), net(unlearner))
        self.model = VotingClassifier([("one", net(unlearner)), ("two", pipe)], voting="soft")

    def parts(self, model):
        return model.estimators_

    def forget(self, model, X, ids):
        sk_unlearn.forget(model, X)


# -------------------------------------------------------------------------------------------------------------- history


class History:
    """A plain account of what a model must hold, beside the model."""

    def __init__(self, kind, draw, unlearner, folder):
        self.subject, self.draw, self.folder = kind(unlearner), draw, Path(folder)
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.rows = {}  # name: (content, target), in order
        self.pending = []  # (ids of a request in each part, names)
        self.gone = set()  # bytes that must not be found in any file
        self.copy = {}, []  # rows and pending requests of a file that was put aside
        self.settled = set()
        self.n_names, self.follows_request = 0, False
        names = [self.new_row() for _ in range(12)]
        options = {"sample_id": self.ids(names)} if self.subject.with_ids else {}
        self.model = self.subject.model.fit(self.table(names), self.targets(names), **options)
        self.carry("keep a copy")

    # what rows are

    def content(self, towns):
        age = np.nan if self.with_gaps and self.rng.random() < 0.2 else self.rng.normal()
        return age, self.rng.normal(), towns[self.rng.integers(len(towns))]

    @property
    def with_gaps(self):
        return type(self.subject) is MixedPipeline

    def new_row(self):
        name = f"person-{self.n_names:05d}"
        towns = ["Ulm", "Bonn", "Jena", f"hamlet-{self.n_names:05d}"] if self.n_names < 12 else self.towns()
        self.rows[name] = (self.content(towns), self.n_names % 2)
        self.n_names += 1
        return name

    def towns(self):
        return sorted({content[2] for content, _ in self.rows.values()})

    def table(self, names):
        return self.subject.table([self.rows[name][0] for name in names])

    def targets(self, names):
        return np.array([self.rows[name][1] for name in names])

    def ids(self, names):
        return list(names) if self.subject.with_ids else None

    def some(self):
        names = self.draw(st.lists(st.sampled_from(list(self.rows)), min_size=1, max_size=3, unique=True))
        return [name for name in self.rows if name in names]

    # what happens to them

    def erased(self, names):
        """Note every trace of rows that are about to go, or to change: values, features, identifiers, rare words."""
        at = [list(self.rows).index(name) for name in names]
        for part in self.subject.parts(self.model):
            # Noughts and ones alone are those of any row: a mean, the least value, a common word.
            features = last_of(part).training_set_.X[at]
            self.gone |= {row.tobytes() for row in features if not np.isin(row, [0, 1]).all()}
        for name in names:
            for value in self.rows[name][0][:2]:
                if not np.isnan(value):
                    self.gone |= {np.float64(value).tobytes(), repr(value).encode()}

    def drop(self, names):
        towns = self.towns()
        for name in names:
            if self.subject.with_ids:
                self.gone |= {name.encode(), name.encode("utf-32-le")}
            del self.rows[name]
        if isinstance(self.subject, MixedPipeline):
            for town in set(towns) - set(self.towns()):
                self.gone |= {town.encode(), town.encode("utf-32-le")}
        self.pending = [(ids, [name for name in held if name not in names]) for ids, held in self.pending]

    def step(self, verb):
        parts = self.subject.parts(self.model)
        waiting = [name for name in self.rows if any(name in names for _, names in self.pending)]
        self.follows_request = self.follows_request and verb != "partial_fit"
        if verb == "forget":
            names = self.some()
            if len(self.rows) - len(names) < FEWEST:
                return
            self.erased(names)
            self.subject.forget(self.model, self.table(names), self.ids(names) if self.draw(st.booleans()) else None)
            self.drop(names)
            self.follows_request = True
        elif verb == "request_forget" and not isinstance(self.subject, CountingPipeline):
            names = self.some()
            self.pending.append(([part.request_forget(self.table(names)) for part in parts], names))
        elif verb == "cancel_request":
            for ids, _ in self.pending[:1]:
                for part, request_id in zip(parts, ids, strict=True):
                    part.cancel_request(request_id)
            del self.pending[:1]
        elif verb in ("settle", "retrain") and len(self.rows) - len(waiting) >= FEWEST:
            self.erased(waiting)
            for part in parts:
                getattr(part, verb)()
            self.follows_request = self.follows_request or bool(self.pending) or verb == "retrain"
            self.settled |= {ids[0] for ids, _ in self.pending}
            self.pending = []
            self.drop(waiting)
        elif verb == "correct":
            self.correct(self.some()[0], parts)
        elif verb == "partial_fit":
            names = [self.new_row() for _ in range(2)]
            options = {"sample_id": self.ids(names)} if self.subject.with_ids else {}
            for part in parts:
                part.partial_fit(self.table(names), self.targets(names), **options)
        else:
            self.carry(verb)

    def correct(self, name, parts):
        (content, target), old = self.rows[name], self.table([name])
        if self.draw(st.booleans()):
            self.erased([name])
            self.rows[name] = (self.content([content[2]]), target)
            for part in parts:
                part.correct(old, X_new=self.table([name]))
        else:
            self.rows[name] = (content, 1 - target)
            for part in parts:
                part.correct(old, y_new=self.targets([name]))
        self.follows_request = True

    def carry(self, verb):
        path, copy = self.folder / "model.skops", self.folder / "copy.skops"
        if verb == "pickle":
            data = pickle.dumps(self.model)
            self.check_bytes(data)
            self.model = pickle.loads(data)
        elif verb == "save":
            sk_unlearn.save(self.model, path)
            self.check_bytes(path.read_bytes())
            self.model = sk_unlearn.load(path, trusted=untrusted_types(path), log=self.logs())
        elif verb == "keep a copy":
            sk_unlearn.save(self.model, copy)
            self.check_bytes(copy.read_bytes())
            self.copy = dict(self.rows), list(self.pending)
        elif verb == "restore the copy" and not isinstance(self.subject, CountingPipeline):
            rows = {name: row for name, row in self.copy[0].items() if self.rows.get(name, [()])[0] == row[0]}
            touched = {name for name, row in self.copy[0].items() if self.rows.get(name) != row}
            if len(rows) - len(touched & rows.keys()) < FEWEST:
                return
            n_receipts = [len(part.receipts_) for part in self.subject.parts(self.model)]
            logs = self.logs()
            self.model = sk_unlearn.load(copy, trusted=untrusted_types(copy), log=logs, replay=True)
            # Rows whose target was corrected go with those whose content was.
            self.rows = {name: row for name, row in rows.items() if name not in touched}
            self.pending = [
                (ids, [name for name in names if name in self.rows])
                for ids, names in self.copy[1]
                if ids[0] not in self.settled
            ]
            more = [len(part.receipts_) - n for part, n in zip(self.subject.parts(self.model), n_receipts, strict=True)]
            assert set(more) <= {0, 1}
            self.follows_request = self.follows_request and not any(more)

    def logs(self):
        logs = [self.folder / f"{n}.jsonl" for n, _ in enumerate(self.subject.parts(self.model))]
        for part, log in zip(self.subject.parts(self.model), logs, strict=True):
            to_json_lines(part.receipts_, log)
        return logs

    # what must hold

    def check_bytes(self, data):
        assert [trace for trace in self.gone if trace in data] == []

    def check(self):
        names = list(self.rows)
        X, y = self.table(names), self.targets(names)
        for n, part in enumerate(self.subject.parts(self.model)):
            stored = last_of(part).training_set_
            assert np.array_equal(stored.y, y)
            if self.subject.with_ids:
                assert stored.sample_id.tolist() == names
            if isinstance(part, Pipeline):
                assert np.array_equal(stored.source, digest_rows(part.receipt_key_, X))
                check_steps(part, X, y)
            else:
                assert np.array_equal(stored.X, X)
            pending = [(each.request_id, each.n_rows) for each in part.pending_]
            assert pending == [(ids[n], len(held)) for ids, held in self.pending]
            assert verify(part.receipts_) == len(part.receipts_) >= len(part.unlearning_history_)
            if self.follows_request:
                held = SetDigest.of_rows(part.receipt_key_, stored).hex(part.receipt_key_)
                assert part.receipts_[-1].retained_set == held
            assert np.isfinite(part.predict_proba(X)).all()


def last_of(part):
    return part[-1] if isinstance(part, Pipeline) else part


def check_steps(pipe, X, y):
    """The steps are those of a fit on these rows, the net stores what they give, and raw rows are these."""
    fresh = clone(pipe[:-1]).fit(X, y)
    expected = fresh.transform(X)
    np.testing.assert_allclose(pipe[:-1].transform(X), expected, rtol=1e-8, atol=1e-8)
    last = pipe[-1]
    stored = last._at_width_of_net(np.asarray(expected, dtype=last.unlearning_state_.dtype))
    np.testing.assert_allclose(last.training_set_.X, stored, rtol=1e-4, atol=1e-5)
    raw = pipe.pipeline_state_.raw
    if pipe.keep_raw:
        assert np.array_equal(digest_rows(pipe.receipt_key_, raw.X), digest_rows(pipe.receipt_key_, X))
        assert np.array_equal(raw.y, y)


@pytest.mark.parametrize("kind", [Estimator, MixedPipeline, CountingPipeline, Vote])
@settings(max_examples=6)
@given(
    st.data(),
    st.lists(st.sampled_from(VERBS + CARRIED), min_size=4, max_size=10),
    st.sampled_from([None, Retrain(), FineTune()]),
)
def test_no_erased_row_comes_back(kind, data, verbs, unlearner):
    with tempfile.TemporaryDirectory() as folder:
        history = History(kind, data.draw, unlearner, folder)
        for verb in [*verbs, "save", "pickle"]:
            history.step(verb)
            history.check()
