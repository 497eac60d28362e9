"""A file that is older than a log of receipts does not bring erased rows back."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, RobustScaler, StandardScaler

import sk_unlearn
from sk_unlearn.exceptions import PersistenceError, ReceiptError
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import prove_erased, read_json_lines, to_json_lines, verify
from sk_unlearn.unlearners import Retrain
from tests._problems import Mlp, classifier, regressor

N = 40
rng = np.random.default_rng(21)
X = rng.normal(size=(N, 3)).astype(np.float32)
y = np.arange(N) % 2
IDS = [f"person {i // 2}" for i in range(N)]
TABLE = pd.DataFrame({"age": X[:, 0].astype(float), "town": np.array(["Ulm", "Bonn"])[rng.integers(2, size=N)]})


def fitted(unlearner=None, **settings):
    return classifier(unlearner, max_epochs=2, lr=0.1, batch_size=16).set_params(**settings).fit(X, y, sample_id=IDS)


class Place:
    """A file and a log that lag behind a model, as far as a test lets them."""

    def __init__(self, model, folder):
        self.model, self.file, self.log = model, folder / "model.skops", folder / "receipts.jsonl"
        self.save()

    def save(self):
        sk_unlearn.save(self.model, self.file)

    def write(self):
        to_json_lines(self.model.receipts_, self.log)

    def load(self, **options):
        options.setdefault("log", self.log)
        return sk_unlearn.load(self.file, trusted=untrusted_types(self.file), **options)


@pytest.fixture
def place(tmp_path):
    place = Place(fitted(), tmp_path)
    place.model.forget(X[:1])
    place.save()
    place.write()
    return place


def check_replayed(loaded, place, gone, n_missing):
    """Rows are gone as content and as bytes, receipts go on, and the log takes the new one."""
    assert not any(row.tobytes() in pickle.dumps(loaded) for row in gone)
    assert loaded.receipts_[:-1] == list(read_json_lines(place.log))
    assert loaded.receipts_[-1].verb == loaded.unlearning_report_.request == "replay"
    told = loaded.receipts_[-1].outcome["requests"]
    assert len({each["request_id"] for each in told}) == n_missing
    assert verify(loaded.receipts_) == len(loaded.receipts_)
    assert to_json_lines(loaded.receipts_, place.log) == 1
    assert verify(place.log, head=loaded.receipts_.head)


def test_a_file_of_the_same_age_loads(place):
    assert place.load().receipts_ == place.model.receipts_
    assert place.load(log=place.model.receipts_, replay=True).receipts_ == place.model.receipts_
    assert place.load(log=list(place.model.receipts_.lines())).receipts_ == place.model.receipts_


def test_an_older_file_is_refused_and_says_how_much_is_missing(place):
    place.model.forget(X[5:7])
    place.model.forget(X[8:9])
    place.write()
    with pytest.raises(PersistenceError, match=r"older than the log, which has 2 requests .* pass replay=True"):
        place.load()


@pytest.mark.parametrize("hashed", [False, True])
def test_an_older_file_catches_up(hashed, tmp_path):
    place = Place(fitted(Retrain(), hash_ids=hashed), tmp_path)
    place.model.forget(X[5:7], y[5:7])
    place.model.forget(sample_id=["person 10"])
    place.model.partial_forget(X[30:31], y[30:31])
    place.write()
    loaded = place.load(replay=True)
    np.testing.assert_array_equal(loaded.training_set_.X, place.model.training_set_.X)
    np.testing.assert_allclose(loaded.predict_proba(X), place.model.predict_proba(X), atol=1e-6)
    assert loaded.receipts_[-1].retained_set == place.model.receipts_[-1].retained_set
    check_replayed(loaded, place, X[[5, 6, 20, 21, 30]], 3)
    assert prove_erased(place.log, X[5:6], key=loaded.receipt_key_)[0][-1].verb == "replay"
    # A copy that is older still misses the replay as well, and the requests are not counted twice.
    again = place.load(replay=True)
    check_replayed(again, place, X[[5, 6, 20, 21, 30]], 3)


def test_requests_that_waited_keep_their_deadline_and_leave_the_queue(place):
    first = place.model.request_forget(X[10:12])
    place.model.request_forget(X[14:15])
    place.save()
    later = place.model.request_forget(sample_id=["person 9"])
    place.model.cancel_request(place.model.pending_[1].request_id)
    place.model.settle()
    place.write()
    loaded = place.load(replay=True)
    assert {each["request_id"] for each in loaded.receipts_[-1].outcome["requests"]} == {first, later}
    assert loaded.receipts_[-1].received == place.model.receipts_[-1].received
    assert [each.n_rows for each in loaded.pending_] == [1]  # whose cancellation is in no log
    check_replayed(loaded, place, X[[10, 11, 18, 19]], 2)


def test_old_content_of_corrected_rows_goes(place):
    new = X[3:4] + 7
    place.model.correct(X[3:4], X_new=new)
    place.model.correct(new, y_old=y[3:4], X_new=new + 1)
    place.write()
    loaded = place.load(replay=True)
    assert len(loaded.training_set_) == len(place.model.training_set_) - 1
    assert any("1 of the rows had been corrected" in note for note in loaded.unlearning_report_.notes)
    check_replayed(loaded, place, [*X[3:4], *new], 2)


def test_of_equal_rows_all_go_unless_identifiers_tell_them_apart(tmp_path):
    """A receipt does not say by which target a row was named."""
    twins = X.copy()
    twins[11] = twins[12] = twins[10]
    est = classifier(max_epochs=1).fit(twins, y)
    place = Place(est, tmp_path)
    est.forget(twins[10:11], y[10:11])  # and 12, which has this target
    place.write()
    loaded = place.load(replay=True)
    assert len(loaded.training_set_) == N - 3
    assert any(note.startswith("1 rows more went than the log says") for note in loaded.unlearning_report_.notes)
    est = classifier(max_epochs=1).fit(twins, y, sample_id=np.arange(N))
    (tmp_path / "other").mkdir()
    place = Place(est, tmp_path / "other")
    est.forget(sample_id=[11])
    place.write()
    loaded = place.load(replay=True)
    assert loaded.training_set_.sample_id.tolist() == est.training_set_.sample_id.tolist()


def test_rows_that_came_after_the_file_do_not_matter(place):
    place.model.partial_fit(X[:2] + 20, y[:2], sample_id=["new", "newer"])
    place.model.forget(sample_id=["new"])
    place.model.retrain()
    place.write()
    loaded = place.load(replay=True)
    assert len(loaded.training_set_) == N - 1
    assert any("1 rows that the log says were erased are not in the copy" in n for n in loaded.unlearning_report_.notes)
    assert any("call retrain()" in note for note in loaded.unlearning_report_.notes)
    check_replayed(loaded, place, [], 2)


def test_rows_that_were_handed_in_cannot_be_undone_by_their_digests(place):
    place.model.partial_forget(X[:1] * 0.9, y[:1])
    place.write()
    with pytest.raises(PersistenceError, match=r"receipt 2 of the log is of rows that were handed in .*\(1 of 1\)"):
        place.load(replay=True)


def test_every_row_cannot_go(place):
    rest = X[1:]
    for at in (slice(0, 20), slice(20, N - 1)):
        copy = pickle.loads(pickle.dumps(place.model))
        copy.partial_fit(X[:3] + 30, y[:3], sample_id=["a", "b", "c"])
        place.model = copy
        place.model.forget(rest[at])
    place.write()
    with pytest.raises(PersistenceError, match="cannot be replayed on the file: The request covers all 39 rows"):
        place.load(replay=True)


def test_a_newer_file_loads_and_says_how_to_write_the_log(place):
    place.model.forget(X[5:7])
    place.save()
    for replay in (False, True):
        with pytest.warns(UserWarning, match=r"newer than the log by 1 receipts.*to_json_lines\(est\.receipts_"):
            loaded = place.load(replay=replay)
    assert to_json_lines(loaded.receipts_, place.log) == 1
    place.load()


def test_a_log_whose_last_line_was_cut_off(place):
    """By a kill of who wrote it: nothing is missing where the file has the whole line."""
    before = place.log.read_bytes()
    place.model.forget(X[5:7])
    place.write()
    whole = place.log.read_bytes()
    place.log.write_bytes(whole[: len(before) + 100])
    with pytest.raises(ReceiptError, match="Receipt 2 is incomplete: its line has no end"):
        place.load()
    place.save()
    with pytest.warns(UserWarning, match="newer than the log by 1"):
        loaded = place.load()
    to_json_lines(loaded.receipts_, place.log)
    assert place.log.read_bytes() == whole


def test_what_an_audit_found_is_taken_over(place):
    class Audit:
        request = place.model.unlearning_report_
        verdict, headline, reasons, complete, created = "good", "", [], True, ""
        seeds, versions, assumptions, n_erased, n_retained = {}, {}, [], 1, 39

    place.model.record_audit(Audit())
    place.write()
    loaded = place.load()
    assert loaded.receipts_ == place.model.receipts_
    assert verify(loaded.forget(X[2:3]).receipts_) == 3


def test_histories_that_part_and_other_models_are_refused(place, tmp_path):
    other = place.load()
    other.forget(X[2:3])
    place.model.forget(X[3:4])
    place.write()
    sk_unlearn.save(other, place.file)
    with pytest.raises(PersistenceError, match="part at receipt 2: each has seen requests that the other has not"):
        place.load(replay=True)
    sk_unlearn.save(fitted(), place.file)
    with pytest.raises(PersistenceError, match="log is of another model, or of another fit of it"):
        place.load(replay=True)
    sk_unlearn.save(place.model, place.file, receipts=False)
    with pytest.raises(PersistenceError, match="has no receipts"):
        place.load()
    sk_unlearn.save(place.model, place.file)
    lines = place.log.read_bytes().split(b"\n")
    place.log.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    with pytest.raises(ReceiptError, match="removed, inserted or reordered"):
        place.load()
    with pytest.raises(FileNotFoundError):
        place.load(log=tmp_path / "nowhere")
    sk_unlearn.save(StandardScaler().fit(X), place.file)
    with pytest.raises(PersistenceError, match="nothing that is fitted and leaves receipts"):
        place.load(log=place.model.receipts_)
    sk_unlearn.save([place.model], place.file)
    with pytest.raises(PersistenceError, match=r"log: .* can forget"):
        place.load(log=place.model.receipts_)


def test_without_rows_an_older_file_cannot_catch_up(place):
    sk_unlearn.save(place.model, place.file, rows=False)
    place.load()
    place.model.forget(X[2:3])
    place.write()
    with pytest.raises(PersistenceError, match="rows were left out of it"):
        place.load(replay=True)


def test_regression(tmp_path):
    est = regressor(Retrain(), Mlp, max_epochs=2).fit(X, X[:, :1])
    place = Place(est, tmp_path)
    est.forget(X[4:6])
    place.write()
    np.testing.assert_allclose(place.load(replay=True).predict(X), est.predict(X), atol=1e-6)


# -------------------------------------------------------------------------------------------- pipelines and composites


def pipeline(*steps, keep_raw=True, **settings):
    steps = steps or (OneHotEncoder(sparse_output=False),)
    return make_pipeline(*steps, classifier(Retrain(), max_epochs=2), keep_raw=keep_raw, **settings)


def test_a_pipeline_catches_up_in_every_step(tmp_path):
    table = TABLE.copy()
    table.loc[5, "town"] = "Atlantis"
    pipe = pipeline().fit(table[["town"]].assign(age=table.age.round()), y, sample_id=IDS)
    place = Place(pipe, tmp_path)
    raw = table[["town"]].assign(age=table.age.round())
    pipe.forget(raw.iloc[[5]])
    pipe.forget(sample_id=["person 10"])
    place.write()
    loaded = place.load(replay=True)
    assert "Atlantis" not in loaded[0].categories_[0]
    np.testing.assert_array_equal(loaded[:-1].transform(raw.drop(5)), pipe[:-1].transform(raw.drop(5)))
    np.testing.assert_allclose(loaded.predict_proba(raw.drop(5)), pipe.predict_proba(raw.drop(5)), atol=1e-6)
    assert loaded.receipts_[-1].retained_set == pipe.receipts_[-1].retained_set
    check_replayed(loaded, place, [], 2)
    assert b"Atlantis" not in pickle.dumps(loaded)


def test_a_pipeline_that_does_not_keep_raw_rows_cannot(tmp_path):
    pipe = pipeline(StandardScaler(), keep_raw=False).fit(X, y)
    place = Place(pipe, tmp_path)
    pipe.forget(X[:1])
    place.write()
    with pytest.raises(PersistenceError, match="keep_raw=False does not keep"):
        place.load(replay=True)
    kept = pipeline(RobustScaler(), keep_raw=False, preprocessing="keep").fit(X, y)
    place = Place(kept, tmp_path)
    place.log.unlink()
    kept.forget(X[:1])
    place.write()
    assert any("still contain the rows" in note for note in place.load(replay=True).unlearning_report_.notes)


def test_a_search_has_one_log(tmp_path):
    search = GridSearchCV(classifier(max_epochs=1), {"unlearner": [None, Retrain()]}, cv=2).fit(X, y)
    path, log = tmp_path / "model.skops", tmp_path / "receipts.jsonl"
    sk_unlearn.save(search, path)
    sk_unlearn.forget(search, X[:2])
    to_json_lines(search.best_estimator_.receipts_, log)
    trusted = untrusted_types(path)
    with pytest.raises(PersistenceError, match="older than the log, which has 1 requests"):
        sk_unlearn.load(path, trusted=trusted, log=log)
    loaded = sk_unlearn.load(path, trusted=trusted, log=log, replay=True)
    assert len(loaded.best_estimator_.training_set_) == N - 2


def test_each_part_has_a_log_of_its_own(tmp_path):
    vote = VotingClassifier([("one", classifier(max_epochs=1)), ("two", pipeline(StandardScaler()))], voting="soft")
    vote.fit(X, y)
    path = tmp_path / "model.skops"
    sk_unlearn.save(vote, path)
    sk_unlearn.forget(vote, X[:2])
    vote.estimators_[0].forget(X[2:3])
    logs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for part, log in zip(vote.estimators_, logs, strict=True):
        to_json_lines(part.receipts_, log)
    trusted = untrusted_types(path)
    with pytest.raises(PersistenceError, match=r"which has 2 requests .*estimators_\[0\]: 2, estimators_\[1\]: 1"):
        sk_unlearn.load(path, trusted=trusted, log=logs)
    loaded = sk_unlearn.load(path, trusted=trusted, log=logs[::-1], replay=True)
    assert [len(part.receipts_) for part in loaded.estimators_] == [3, 2]
    assert len(loaded.estimators_[0].training_set_) == N - 3
    assert len(loaded.estimators_[1][-1].training_set_) == N - 2
    with pytest.raises(PersistenceError, match=r"1 of 2 parts begin otherwise \(estimators_\[1\]\)"):
        sk_unlearn.load(path, trusted=trusted, log=logs[0], replay=True)
    sk_unlearn.save(vote.estimators_[0], path)
    with pytest.raises(PersistenceError, match="log has receipts of a model that is not in the file"):
        sk_unlearn.load(path, trusted=trusted, log=logs)


def test_parts_that_cannot_forget_keep_a_composite_from_catching_up(tmp_path):
    vote = VotingClassifier([("one", classifier(max_epochs=1)), ("two", LogisticRegression())], voting="soft")
    vote.fit(X, y)
    path = tmp_path / "model.skops"
    sk_unlearn.save(vote, path)
    kept = shutil.copy(path, tmp_path / "copy.skops")
    sk_unlearn.forget(vote, X[:2], on_other="refit", retained=(X[2:], y[2:]))
    log = vote.estimators_[0].receipts_
    with pytest.raises(PersistenceError, match=r"1 parts may have learnt .*estimators_\[1\]: LogisticRegression"):
        sk_unlearn.load(kept, trusted=untrusted_types(kept), log=log, replay=True)
    sk_unlearn.save(vote, path)
    assert len(sk_unlearn.load(path, trusted=untrusted_types(path), log=log).estimators_) == 2


def test_sparse_rows_are_found_by_their_digests_too(tmp_path):
    rows = scipy.sparse.csr_array(scipy.sparse.random(N, 6, density=0.5, random_state=3, dtype=np.float32))
    est = classifier(Retrain(), max_epochs=1).fit(rows, y)
    place = Place(est, tmp_path)
    est.forget(rows[4:6])
    place.write()
    loaded = place.load(replay=True)
    assert loaded.receipts_[-1].retained_set == est.receipts_[-1].retained_set
    np.testing.assert_allclose(loaded.predict_proba(rows), est.predict_proba(rows), atol=1e-6)
