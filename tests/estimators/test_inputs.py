"""What X and y may be: labels of any kind, targets of any number, data types, data frames, missing devices."""

import copy
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import DataConversionWarning, NotFittedError
from skorch.callbacks import EpochScoring

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import StoCuReNU
from tests import _problems
from tests._problems import Mlp

SETTINGS = {"max_epochs": 5, "batch_size": 16}


def classifier(**settings):
    return _problems.classifier(**({"lr": 0.3} | SETTINGS | settings))


def regressor(**settings):
    return _problems.regressor(**({"lr": 0.1} | SETTINGS | settings))


rng = np.random.default_rng(2)
X = rng.normal(size=(40, 3))
score = X @ [1.0, -1.0, 2.0]
group = np.digitize(score, [-1, 1])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", "c"]),
        np.array([10, 20, 30]),
        np.array([-1, 0, 1], dtype=np.int8),
        np.array([1.0, 2.0, 3.0]),
        np.array(["x", "yy", "zzz"], dtype=object),
    ],
    ids=["str", "int", "int8", "float", "object"],
)
def test_labels(labels):
    y = labels[group]
    est = classifier().fit(X, y)
    np.testing.assert_array_equal(est.classes_, labels)
    assert est.predict(X).dtype == labels.dtype
    est.forget(X[:2], y[:2]).partial_forget(X[2:4], y[2:4])
    assert len(est.training_set_) == 36
    assert est.score(X, y) >= 0
    if labels.dtype.kind in "iuf":
        with pytest.raises(ValueError, match="labels that fit has not seen"):
            est.forget(X[4:5], [99])


def test_bool_labels():
    y = score > 0
    est = classifier().fit(X, y).forget(X[:2], y[:2])
    assert est.predict(X).dtype == bool


def test_list_of_str():
    y = [("no", "yes")[int(v > 0)] for v in score]
    est = classifier().fit(X.tolist(), y).forget(X[:2].tolist(), y[:2])
    assert set(est.predict(X)) <= {"no", "yes"}


def test_column_of_labels_warns():
    with pytest.warns(DataConversionWarning):
        classifier().fit(X, group[:, None])


def test_one_class_only():
    est = classifier().fit(X, np.zeros(40, dtype=int)).forget(X[:3])
    assert est.predict_proba(X).shape == (40, 1)


@pytest.mark.parametrize("k", [2, 3])
def test_several_targets(k):
    Y = np.column_stack([score * (i + 1) for i in range(k)])
    est = regressor().fit(X, Y)
    assert est.predict(X).shape == (40, k)
    est.forget(X[:2], Y[:2]).correct(X[2:3], y_new=Y[:1] + 1)
    assert est.training_set_.y.shape == (38, k)
    with pytest.raises(ValueError, match=r"y_del has targets of shape"):
        est.forget(X[3:4], Y[3:4, 0])


def test_one_target_stays_flat():
    est = regressor().fit(X, score)
    assert est.predict(X).shape == (40,)
    est.forget(X[:2], score[:2]).forget(X[2:3], score[2:3, None])
    with pytest.raises(ValueError, match="y_del has targets of shape"):
        est.forget(X[3:4], [[1.0, 2.0]])


def test_a_column_of_one_target_stays_a_column():
    est = regressor().fit(X, score[:, None])
    assert est.predict(X).shape == (40, 1)
    est.forget(X[:2], score[:2, None]).forget(X[2:3], score[2:3])
    assert len(est.training_set_) == 37


def test_module_with_flat_output():
    class Flat(Mlp):
        def forward(self, X):
            return super().forward(X)[:, 0]

    est = regressor(module=Flat).fit(X, score)
    assert est.forget(X[:3]).predict(X).shape == (40,)


@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16, np.int64, np.int32, np.bool_])
@pytest.mark.parametrize("module", [torch.float32, torch.float64])
def test_data_types(given, module):
    data = np.round(X * 4).astype(given) if np.dtype(given).kind != "b" else np.repeat(X > 0, 3, axis=1)
    data, unique = np.unique(data, axis=0, return_index=True)
    est = classifier(module__dtype=module).fit(data, group[unique])
    assert est.training_set_.X.dtype == np.dtype(str(module).removeprefix("torch."))
    est.forget(data[:2])
    assert est.unlearning_report_.n_erased == 2
    assert flat_parameters(est.net_).dtype == module


def test_rows_are_found_across_data_types():
    est = classifier().fit(X, group)
    est.forget(X[:1].astype(np.float32))
    est.forget(X[1:2].tolist())
    est.forget(pd.DataFrame(X[2:3]))
    assert len(est.training_set_) == 37


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_default_net_follows_the_data(dtype):
    est = UnlearnableRegressor(random_state=0).fit(X[:20].astype(dtype), score[:20])
    assert flat_parameters(est.net_).dtype == torch.float32 if dtype is np.float32 else torch.float64
    assert est.predict(X.astype(dtype)).dtype == dtype
    est.forget(X[:1].astype(dtype))


def test_data_frame():
    frame = pd.DataFrame(X, columns=["age", "height", "weight"])
    labels = pd.Series(np.where(score > 0, "yes", "no"))
    est = classifier().fit(frame, labels)
    assert est.feature_names_in_.tolist() == ["age", "height", "weight"]
    est.forget(frame.iloc[[0, 5]], labels.iloc[[0, 5]]).forget(sample_id=None, X_del=frame.iloc[1:2])
    with pytest.raises(ValueError, match="feature names"):
        est.forget(frame.iloc[2:3].rename(columns={"age": "years"}))
    with pytest.raises(ValueError, match="feature names"):
        est.forget(frame.iloc[2:3][["height", "age", "weight"]])
    assert len(est.training_set_) == 37


def test_ids_from_a_data_frame():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    owner = pd.Series([f"customer {i // 2}" for i in range(40)])
    est = classifier().fit(frame, group, sample_id=owner)
    est.forget(sample_id=owner[:1])
    assert len(est.training_set_) == 38


@pytest.fixture(scope="module")
def with_ids_of_any_kind():
    return classifier().fit(X, group, sample_id=[*(("clinic", i) for i in range(37)), 7, "7", datetime(2024, 1, 1)])


@pytest.mark.parametrize(
    "asked", [[("clinic", 3)], "7", 7, np.int64(7), np.array(7), ["7"], np.array([7]), {7}, np.datetime64("2024-01-01")]
)
def test_ids_of_any_kind(asked, with_ids_of_any_kind):
    est = copy.deepcopy(with_ids_of_any_kind)
    est.forget(sample_id=asked)
    assert len(est.training_set_) == 39
    with pytest.raises(ValueError, match="1 of 1 ids are not stored"):
        est.forget(sample_id=asked)


def test_big_ids_in_a_mixed_list_stay_two_persons():
    est = classifier().fit(X, group, sample_id=[2**53, 2**53 + 1, *range(37), 0.5])
    est.forget(sample_id=[2**53])
    assert len(est.training_set_) == 39
    est.partial_fit(X[:1], group[:1], sample_id=["7"]).forget(sample_id=[7])
    assert len(est.training_set_) == 39
    assert "7" in est.training_set_.sample_id.tolist()


def test_an_id_that_is_missing_is_refused_where_it_comes_in():
    ids = [*range(39), None]
    epochs = []
    est = classifier(callbacks=[("count", EpochScoring(lambda net, X, y: epochs.append(1) or 0.0, on_train=True))])
    with pytest.raises(ValueError, match="sample_id is missing"):
        est.fit(X, group, sample_id=ids)
    with pytest.raises(ValueError, match=r"sample_id must have shape \(40,\)"):
        est.fit(X, group, sample_id=ids[:39])
    assert not epochs  # before an hour of training, not after it
    est.fit(X, group, sample_id=range(40))
    with pytest.raises(ValueError, match="sample_id is missing"):
        est.partial_fit(X, group, sample_id=ids)
    with pytest.raises(ValueError, match="sample_id was not given here but given at fit"):
        est.partial_fit(X, group)
    assert len(est.training_set_) == 40


def test_fit_owns_its_rows():
    data = X.astype(np.float32).copy()
    est = classifier().fit(data, group)
    data[:] = 0
    np.testing.assert_array_equal(est.training_set_.X, X.astype(np.float32))
    est.forget(X[:1])
    assert (data == 0).all()


def test_read_only_input():
    data = X.astype(np.float32)
    data.flags.writeable = False
    est = classifier().fit(data, group)
    est.forget(data[:3]).predict(data)


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"estimator": 3}, "estimator"), ({"unlearner": "StoCuReNU"}, "unlearner"), ({"keep_training_set": "yes"}, "keep"),
     ({"random_state": "a"}, "random_state"), ({"device": 3}, "device"), ({"unlearner": StoCuReNU}, "unlearner")],
)  # fmt: skip
def test_parameter_constraints(bad, message):
    with pytest.raises(ValueError, match=f"'{message}"):
        UnlearnableClassifier(**bad).fit(X, group)


@pytest.mark.parametrize("wrong", [{"L": -1.0}, {"max_steps": 0}, {"solver": "magic"}, {"tol": 2}])
def test_unlearner_constraints(wrong):
    est = classifier().set_params(unlearner=StoCuReNU(**wrong)).fit(X, group)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        est.forget(X[:1])
    assert len(est.training_set_) == 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
def test_device_that_is_not_there(device):
    with pytest.raises(ValueError, match="CUDA is not available"):
        classifier().set_params(device=device).fit(X, group)


def test_device_of_the_net_is_overridden():
    est = classifier(device="meta").set_params(device="cpu").fit(X, group)
    assert est.net_.device == "cpu"
    assert est.estimator.device == "meta"


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_prediction_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(classifier(), method)(X)


def test_divergence_is_an_error():
    est = regressor(lr=1e6, max_epochs=40)
    with pytest.raises(ValueError, match="Training diverged"):
        est.fit(X * 100, score)
    assert not hasattr(est, "net_")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [classifier, regressor])
def test_on_a_gpu(kind):
    y = group if kind is classifier else score
    est = kind().set_params(device="cuda").fit(X, y)
    before = est.predict(X)
    est.forget(X[:3]).correct(X[3:4], X_new=X[3:4] + 1).partial_forget(X[4:6], y[4:6])
    assert flat_parameters(est.net_).device.type == "cuda"
    assert est.predict(X).shape == before.shape
    assert all(report.parameters_moved for report in est.unlearning_history_)


@pytest.mark.gpu
def test_without_rows_on_a_gpu():
    est = classifier().set_params(device="cuda", keep_training_set=False).fit(X, group)
    est.partial_forget(X[:3], group[:3]).partial_forget(X[3:5], group[3:5])
    assert np.isfinite(est.predict_proba(X)).all()
