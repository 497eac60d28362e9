"""Steps that resample: rows are drawn and synthesised in fit alone, and all that was made of an erased row goes."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

from sk_unlearn import forget, load, save
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import prove_erased, verify
from sk_unlearn.unlearners import Retrain
from tests import _problems

pytest.importorskip("imblearn")
from imblearn import FunctionSampler
from imblearn.combine import SMOTEENN
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as imblearn_pipeline
from imblearn.under_sampling import ClusterCentroids, NearMiss, RandomUnderSampler

N = 80
rng = np.random.default_rng(11)
X = rng.normal(size=(N, 3)) * [1, 10, 100] + [0, 5, 1000]
y = np.where(np.arange(N) % 4, "many", "few")
IDS = np.array([f"person {i}" for i in range(N)])
FEW, MANY = np.flatnonzero(y == "few"), np.flatnonzero(y == "many")


def net(unlearner=None, **settings):
    return _problems.classifier(unlearner, **({"max_epochs": 3, "lr": 0.1, "batch_size": 16} | settings))


def rows_of(pipe, *, drawn=True):
    """What the net was trained on, or what it stores beside that."""
    rows = pipe[-1].training_set_
    weight = np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight
    return rows.X[(weight > 0) == drawn]


def is_between(s, a, others):
    """Whether a point lies between a row and one of some others."""
    for b in others:
        u = np.clip((s - a) @ (b - a) / max((b - a) @ (b - a), 1e-300), 0, 1)
        if np.abs(a + u * (b - a) - s).max() < 1e-5:
            return True
    return False


# ------------------------------------------------------------------------------------------------------------------ fit


@pytest.mark.parametrize(
    "sampler",
    [
        SMOTE(random_state=1),
        RandomOverSampler(random_state=1),
        RandomUnderSampler(random_state=1),
        NearMiss(),
        SMOTEENN(random_state=1),
        ClusterCentroids(random_state=1),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_it_fits_and_predicts_as_the_pipeline_of_imbalanced_learn(sampler):
    steps = [StandardScaler(), sampler, PCA(2)]
    ours = make_pipeline(*steps, net()).fit(X, y)
    theirs = imblearn_pipeline(*map(clone, steps), net()).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert ours.n_features_in_ == 3
    assert not hasattr(ours[1], "sampling_strategy_")  # fitted samplers keep rows
    drawn = theirs[-1].training_set_.X
    np.testing.assert_array_equal(rows_of(ours), drawn)


def test_names_parameters_and_bad_uses():
    table = pd.DataFrame(X, columns=list("abc"))
    pipe = make_pipeline(RandomUnderSampler(random_state=0), StandardScaler(), net()).fit(table, y)
    assert pipe.feature_names_in_.tolist() == list("abc")
    assert clone(pipe).get_params()["randomundersampler__random_state"] == 0
    with pytest.raises(ValueError, match="as the last step here"):
        make_pipeline(SMOTE(), LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="parameters of steps that there are not: other"):
        pipe.fit(X, y, other__sample_weight=np.ones(N))
    with pytest.raises(ValueError, match="sample_id has 3 entries"):
        pipe.fit(X, y, sample_id=[1, 2, 3])
    with pytest.raises(ValueError, match="transform_input cannot be had with resampling steps"):
        clone(pipe).set_params(transform_input=["X_val"]).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit cannot be had with steps that resample"):
        pipe.partial_fit(table, y)
    with pytest.raises(ValueError, match="partial_fit cannot be had with steps that resample"):
        clone(pipe).partial_fit(table, y)
    with pytest.raises(ValueError, match="correct cannot be had with steps that resample"):
        pipe.correct(table[:1], y_new=["few"])


def test_weights_and_identifiers_follow_their_rows():
    weight = rng.uniform(1, 2, N)
    pipe = make_pipeline(RandomOverSampler(random_state=0), net())
    name = pipe.steps[-1][0]
    pipe.fit(X, y, sample_id=IDS, **{f"{name}__sample_weight": weight})
    rows = pipe[-1].training_set_
    number = [int(each.split()[1]) for each in rows.sample_id]
    np.testing.assert_array_equal(rows.sample_weight, weight[number])
    np.testing.assert_array_equal(rows.X, X[number].astype(np.float32))
    pipe = make_pipeline(SMOTE(random_state=0), net()).fit(
        X, y, sample_id=np.arange(N), **{f"{name}__sample_weight": weight}
    )
    rows = pipe[-1].training_set_
    assert len(set(rows.sample_id.tolist())) == len(rows)
    made = rows.sample_weight[N:]
    assert (made >= weight[FEW].min()).all()
    assert (made <= weight[FEW].max()).all()
    pipe.forget(sample_id=[int(FEW[0])])
    assert int(FEW[0]) not in pipe[-1].training_set_.sample_id


# ----------------------------------------------------------------------------------------------------------- forgetting


@pytest.mark.parametrize("sampler", [SMOTE, BorderlineSMOTE, ADASYN], ids=lambda kind: kind.__name__)
def test_rows_synthesised_from_an_erased_one_go(sampler):
    pipe = make_pipeline(StandardScaler(), sampler(random_state=3), net()).fit(X, y)
    Z, made = StandardScaler().fit_transform(X), rows_of(pipe)[N:]
    others = Z[FEW[1:]]
    of_erased = np.array([is_between(s, Z[FEW[0]], others) for s in made])
    assert of_erased.any()
    pipe.forget(X[FEW[:1]])
    stay = np.delete(np.arange(N), FEW[0])
    scaler = StandardScaler().fit(X[stay])
    np.testing.assert_allclose(pipe[0].mean_, scaler.mean_, rtol=1e-12)
    # What is left is the same draw, in the coordinates of the scaler without the row.
    raw = np.concatenate([X[stay], StandardScaler().fit(X).inverse_transform(made[~of_erased])])
    np.testing.assert_allclose(rows_of(pipe), scaler.transform(raw), atol=1e-5)
    notes = pipe.unlearning_report_.notes
    assert any(f"{of_erased.sum()} rows that a resampling step had synthesised" in note for note in notes)
    assert pipe.unlearning_report_.n_erased == 1 + of_erased.sum()
    assert not any("may contain" in note for note in notes)
    verify(pipe.receipts_)
    assert prove_erased(pipe.receipts_, X[FEW[:1]], key=pipe.receipt_key_) == [[pipe.receipts_[0]]]


def test_all_copies_of_a_row_go():
    sampler = RandomOverSampler(random_state=0)
    pipe = make_pipeline(sampler, StandardScaler(), net()).fit(X, y)
    counts = np.bincount(_drawn(sampler), minlength=N)
    gone = [int(np.argmax(counts)), int(MANY[0])]
    assert counts[gone[0]] > 2
    for each in gone:
        pipe.forget(X[[each]])
    stays = np.delete(np.arange(N), gone)
    drawn = np.repeat(stays, counts[stays])
    scaler = StandardScaler().fit(X[drawn])
    np.testing.assert_allclose(pipe[1].mean_, scaler.mean_, rtol=1e-10)
    np.testing.assert_allclose(
        np.sort(rows_of(pipe), axis=0), np.sort(scaler.transform(X[drawn]), axis=0), rtol=1e-5, atol=1e-5
    )


def _drawn(sampler):
    fitted = clone(sampler)
    fitted.fit_resample(X, y)
    return fitted.sample_indices_


def test_rows_that_were_left_out_leave_the_steps_before():
    sampler = RandomUnderSampler(random_state=0)
    pipe = make_pipeline(StandardScaler(), sampler, net()).fit(X, y, sample_id=IDS)
    left_out = np.setdiff1d(np.arange(N), _drawn(sampler))
    expected = pipe.predict_proba(X)
    pipe.forget(X[left_out[:1]])
    np.testing.assert_allclose(pipe[0].mean_, StandardScaler().fit(X[np.delete(np.arange(N), left_out[0])]).mean_)
    np.testing.assert_allclose(pipe.predict_proba(X), expected, atol=1e-5)  # the first layer has taken the move
    assert any("1 of the rows had been left out" in note for note in pipe.unlearning_report_.notes)
    assert pipe.unlearning_report_.n_trained_erased == 0
    pipe.forget(sample_id=[IDS[left_out[1]], IDS[FEW[0]]])
    stay = np.setdiff1d(np.arange(N), [left_out[0], left_out[1], FEW[0]])
    np.testing.assert_allclose(pipe[0].var_, StandardScaler().fit(X[stay]).var_)
    assert len(rows_of(pipe, drawn=False)) == len(left_out) - 2
    with pytest.raises(ValueError, match="cannot be found"):
        pipe.forget(X[left_out[:1]])
    with pytest.raises(ValueError, match="covers all rows that the resampling steps drew"):
        pipe.forget(X[np.setdiff1d(_drawn(sampler), FEW[0])])


def test_steps_that_are_fitted_anew_before_a_sampler_and_behind_it():
    """No raw row gives what such a step makes of a synthetic one: it lies where it did between the new rows."""
    steps = [QuantileTransformer(n_quantiles=20), SMOTE(random_state=2), PCA(2)]
    pipe = make_pipeline(*steps, net(Retrain())).fit(X, y)
    first, second = (clone(step) for step in (steps[0], steps[1]))
    Z, _ = second.fit_resample(first.fit_transform(X), y)
    gone = int(FEW[2])
    pipe.forget(X[[gone]])
    stay = np.delete(np.arange(N), gone)
    inner = QuantileTransformer(n_quantiles=20).fit(X[stay])
    np.testing.assert_allclose(pipe[0].transform(X), inner.transform(X), atol=1e-12)
    kept = [k for k in range(N, len(Z)) if not is_between(Z[k], Z[gone], np.delete(Z[FEW], 2, axis=0))]
    raw_old, new = Z[stay], inner.transform(X[stay])
    few = np.flatnonzero(y[stay] == "few")
    made = [_same_mixture(Z[k], raw_old[few], new[few]) for k in kept]
    both = np.concatenate([new, made])
    pca = PCA(2).fit(both)
    np.testing.assert_allclose(np.abs(pipe[2].components_), np.abs(pca.components_), atol=1e-8)
    np.testing.assert_allclose(rows_of(pipe), pipe[2].transform(both), atol=1e-5)
    pipe.forget(X[[FEW[5], MANY[3]]])  # and once more


def _same_mixture(s, old, new):
    for a in range(len(old)):
        for b in range(a):
            u = (s - old[a]) @ (old[b] - old[a]) / ((old[b] - old[a]) @ (old[b] - old[a]))
            if 0 <= u <= 1 and np.abs(old[a] + u * (old[b] - old[a]) - s).max() < 1e-12:
                return new[a] + u * (new[b] - new[a])
    raise AssertionError


def test_synthetic_rows_of_unknown_origin_are_named():
    pipe = make_pipeline(StandardScaler(), ClusterCentroids(random_state=0), net()).fit(X, y)
    pipe.forget(X[MANY[:1]])
    (note,) = [note for note in pipe.unlearning_report_.notes if "may contain the erased ones" in note]
    assert int(note.split()[0]) > 5
    np.testing.assert_allclose(pipe[0].mean_, StandardScaler().fit(np.delete(X, MANY[0], axis=0)).mean_)
    # On a line every segment passes through a synthetic row.
    pipe = make_pipeline(SMOTE(random_state=0), net()).fit(X[:, :1], y)
    pipe.forget(X[FEW[:1], :1])
    assert any("may contain the erased ones" in note for note in pipe.unlearning_report_.notes)
    pipe = make_pipeline(QuantileTransformer(n_quantiles=20), ClusterCentroids(random_state=0), net()).fit(X, y)
    expected, state = pipe.predict_proba(X), pipe.pipeline_state_
    with pytest.raises(ValueError, match=r"rows that the step clustercentroids made of rows that are not known"):
        pipe.forget(X[MANY[:1]])
    np.testing.assert_array_equal(pipe.predict_proba(X), expected)
    assert pipe.pipeline_state_ is state


def test_noise_moves_with_a_scale():
    sampler = RandomOverSampler(random_state=0, shrinkage=0.3)
    pipe = make_pipeline(StandardScaler(), sampler, net()).fit(X, y)
    fitted = clone(sampler)
    Z, _ = fitted.fit_resample(StandardScaler().fit_transform(X), y)
    gone = int(fitted.sample_indices_[-1])
    pipe.forget(X[[gone]])
    stays = fitted.sample_indices_ != gone
    raw = StandardScaler().fit(X).inverse_transform(Z[stays])
    scaler = StandardScaler().fit(np.delete(X, gone, axis=0))
    np.testing.assert_allclose(rows_of(pipe), scaler.transform(raw), atol=1e-5)


def test_samplers_in_a_row_and_content_as_the_only_trace():
    def first_half(X, y):
        return X[: len(X) // 2], y[: len(y) // 2]

    steps = [StandardScaler(), FunctionSampler(func=first_half), StandardScaler(), RandomOverSampler(random_state=0)]
    pipe = make_pipeline(*steps, net()).fit(X, y)
    assert len(rows_of(pipe, drawn=False)) == N - N // 2
    pipe.forget(X[[0, N - 1]])
    stay = np.arange(1, N - 1)
    outer = StandardScaler().fit(X[stay])
    inner = StandardScaler().fit(outer.transform(X[1 : N // 2]))
    np.testing.assert_allclose(pipe[:-1].transform(X), inner.transform(outer.transform(X)), atol=1e-10)
    assert {tuple(row) for row in np.round(rows_of(pipe), 3)} <= {
        tuple(row) for row in np.round(pipe[:-1].transform(X[1 : N // 2]).astype(np.float32), 3)
    }


class Doubling(BaseEstimator):
    """Adds each row again, and one that nobody gave."""

    def __init__(self, extra):
        self.extra = extra

    def fit_resample(self, X, y):
        return pd.concat([X, X, self.extra], ignore_index=True), np.concatenate([y, y, y[:1]])


def test_copies_of_words_are_found_and_other_rows_are_named():
    towns = pd.DataFrame({"town": [f"town {i % 9}" for i in range(N)], "job": [f"job {i % 7}" for i in range(N)]})
    extra = pd.DataFrame({"town": ["town 1"], "job": ["job 99"]})
    pipe = make_pipeline(Doubling(extra), "passthrough", OneHotEncoder(sparse_output=False), net()).fit(towns, y)
    pipe.forget(towns[:1], y[:1])
    same = (towns == towns.iloc[0]).all(axis=1) & (y == y[0])
    assert len(rows_of(pipe)) == 2 * (N - same.sum()) + 1
    assert any("1 synthetic rows may contain the erased ones" in note for note in pipe.unlearning_report_.notes)


def test_without_raw_rows_what_the_steps_before_a_sampler_cannot_do_is_refused():
    pipe = make_pipeline(RobustScaler(), RandomUnderSampler(random_state=0), net(), keep_raw=False).fit(X, y)
    with pytest.raises(ValueError, match=r"robustscaler: RobustScaler\. Fit with keep_raw=True"):
        pipe.forget(X[:1])
    pipe = make_pipeline(StandardScaler(), RandomUnderSampler(random_state=0), net(), keep_raw=False)
    pipe.fit(X, y, sample_id=IDS)
    pipe[-1].forget(sample_id=IDS[:1])
    with pytest.raises(ValueError, match="The last step has forgotten rows by a call of its own"):
        pipe.forget(X[1:2])


def test_tables_of_words_and_numbers():
    table = pd.DataFrame({"town": np.where(np.arange(N) == FEW[0], "Atlantis", "Ulm"), "age": X[:, 1], "pay": X[:, 2]})
    columns = ColumnTransformer(
        [("words", OneHotEncoder(sparse_output=False), ["town"]), ("n", StandardScaler(), ["age", "pay"])]
    )
    for steps in ([RandomOverSampler(random_state=0), columns], [columns, SMOTE(random_state=0), StandardScaler()]):
        pipe = make_pipeline(*steps, net()).fit(table, y, sample_id=IDS)
        pipe.forget(table.iloc[FEW[:1]])
        content = pickle.dumps(pipe)
        for trace in (b"Atlantis", X[FEW[0], 2].tobytes(), IDS[FEW[0]].encode() + b"\x94"):
            assert trace not in content
        assert pipe.predict(table.assign(town="Ulm")).shape == (N,)


def test_without_raw_rows_a_scale_follows_and_later_steps_are_named():
    pipe = make_pipeline(StandardScaler(), SMOTE(random_state=0), net(), keep_raw=False).fit(X, y, sample_id=IDS)
    pipe.forget(X[FEW[:2]])
    np.testing.assert_allclose(pipe[0].mean_, StandardScaler().fit(np.delete(X, FEW[:2], axis=0)).mean_)
    with pytest.raises(ValueError, match="pass X_del beside sample_id"):
        pipe.forget(sample_id=IDS[FEW[3:4]])
    pipe = make_pipeline(SMOTE(random_state=0), StandardScaler(), net(), keep_raw=False).fit(X, y)
    with pytest.raises(ValueError, match="standardscaler: StandardScaler"):
        pipe.forget(X[:1])
    pipe.set_params(preprocessing="keep").forget(X[:1])
    assert any("still contain the rows: standardscaler" in note for note in pipe.unlearning_report_.notes)


def test_requests_wait_and_files_and_direct_calls_go_on(tmp_path):
    pipe = make_pipeline(StandardScaler(), SMOTE(random_state=0), net()).fit(X, y, sample_id=IDS)
    n = len(rows_of(pipe))
    pipe.request_forget(X[FEW[:1]])
    assert len(rows_of(pipe)) == n
    pipe.settle()
    assert len(rows_of(pipe)) < n - 1
    pipe.partial_forget(X[FEW[1:2]], y[FEW[1:2]])
    pipe.retrain()
    pipe[-1].forget(sample_id=IDS[FEW[2:3]])  # past the pipeline; what it had made of the row follows
    save(pipe, tmp_path / "pipe.skops")
    pipe = load(tmp_path / "pipe.skops", trusted=[SMOTE, _problems.Mlp])
    pipe.forget(X[MANY[:1]])
    gone = [*FEW[:3], MANY[0]]
    np.testing.assert_allclose(pipe[0].mean_, StandardScaler().fit(np.delete(X, gone, axis=0)).mean_)
    state = pipe.pipeline_state_
    assert len(state.raw) == N - 4
    assert len(state.resampled.source) == len(pipe[-1].training_set_)


def test_inside_and_beside_other_models():
    vote = VotingClassifier([("one", make_pipeline(StandardScaler(), SMOTE(random_state=0), net()))], voting="soft")
    vote.fit(X, y)
    forget(vote, X[FEW[:1]])
    assert any("synthesised" in note for note in vote.estimators_[0].unlearning_report_.notes)
    foreign = imblearn_pipeline(StandardScaler(), SMOTE(random_state=0), net()).fit(X, y)
    with pytest.raises(ValueError, match="rows that it made from the erased ones"):
        forget(foreign, X[FEW[:1]])


def test_sparse_rows():
    table = pd.DataFrame({"town": [f"town {i % 9}" for i in range(N)], "job": [f"job {i % 7}" for i in range(N)]})
    for sampler in (RandomUnderSampler(random_state=0), RandomOverSampler(random_state=0), SMOTE(random_state=0)):
        pipe = make_pipeline(OneHotEncoder(), sampler, MaxAbsScaler(), net()).fit(table, y, sample_id=IDS)
        gone = np.flatnonzero(table.town == "town 4")
        pipe.forget(sample_id=IDS[gone])
        assert "town 4" not in pipe[0].categories_[0]
        stored = pipe[-1].training_set_.X.csr.toarray()
        copies = [k for k, each in enumerate(pipe[-1].training_set_.sample_id) if str(each).startswith("person")]
        number = [int(pipe[-1].training_set_.sample_id[k].split()[1]) for k in copies]
        expected = pipe[:-1].transform(table.iloc[number]).toarray()
        # The net keeps the width of its input, and the column of the town is empty.
        assert pipe[-1].unlearning_state_.filled.tolist() == np.delete(np.arange(16), 4).tolist()
        np.testing.assert_allclose(stored[copies][:, pipe[-1].unlearning_state_.filled], expected, atol=1e-6)
        assert not stored[:, 4].any()


def test_images_are_resampled_as_flat_rows():
    images, y = np.zeros((12, 1, 4, 4), dtype=np.float32), np.arange(12) % 4 == 0
    with pytest.raises(
        ValueError, match="RandomOverSampler resamples tables, and its rows have 3 dimensions"
    ) as caught:
        make_pipeline(RandomOverSampler(random_state=0), net()).fit(images, y)
    assert "let it come before the step that gives rows their shape" in str(caught.value)
