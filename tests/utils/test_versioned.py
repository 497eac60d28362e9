import copy
import pickle
import re
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor, __version__
from sk_unlearn.exceptions import InconsistentVersionWarning
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.unlearners import FineTune

X = np.random.default_rng(0).normal(size=(40, 2))
y = (X[:, 0] > 0).astype(int)


class Fixed(FineTune):
    """An unlearner of somebody else's."""


SUBJECTS = [
    UnlearnableClassifier(),
    UnlearnableRegressor(),
    FineTune(),
    Fixed(),
    ForgetSearchCV(UnlearnableClassifier(), {}),
]


def of_another_version(estimator, version):
    """Pickle an estimator as another version, of the same length, would have."""
    data = pickle.dumps(estimator)
    assert data.count(__version__.encode()) > 0
    return data.replace(__version__.encode(), version.encode())


@pytest.mark.parametrize("estimator", SUBJECTS, ids=lambda estimator: type(estimator).__name__)
def test_warns_of_another_version(estimator):
    assert repr(pickle.loads(pickle.dumps(estimator))) == repr(estimator)
    name = type(estimator).__name__
    with pytest.warns(InconsistentVersionWarning) as caught:
        loaded = pickle.loads(of_another_version(estimator, "9.8.7"))
    about = caught[-1].message
    assert (about.estimator_name, about.current_sk_unlearn_version) == (name, __version__)
    assert about.original_sk_unlearn_version == "9.8.7"
    assert re.search(f"{name} pickled by version 9.8.7 .* into version {__version__}", str(about))
    assert repr(loaded) == repr(estimator)
    # The version is the file's and not the object's: pickled again, it is of this version.
    assert repr(pickle.loads(pickle.dumps(loaded))) == repr(estimator)


def test_warns_where_no_version_was_kept():
    estimator = FineTune(3)
    state = estimator.__getstate__()
    bare = {name: value for name, value in state.items() if "version" not in name}
    with pytest.warns(InconsistentVersionWarning, match="pickled by version unknown"):
        estimator.__setstate__(bare)
    assert bare == vars(estimator) == {"n_epochs": 3, **bare}


def test_a_fitted_estimator_survives(tmp_path):
    est = UnlearnableClassifier(unlearner=FineTune(1), random_state=0).fit(X, y).forget(X[:2])
    joblib.dump(est, tmp_path / "model.joblib")
    for twin in (joblib.load(tmp_path / "model.joblib"), pickle.loads(pickle.dumps(est)), copy.deepcopy(est)):
        assert vars(twin).keys() == vars(est).keys()
        np.testing.assert_array_equal(twin.predict_proba(X), est.predict_proba(X))
        twin.forget(X[2:4])
        assert len(twin.training_set_) == len(X) - 4
    assert clone(est).get_params()["random_state"] == 0
    (tmp_path / "old.joblib").write_bytes(
        (tmp_path / "model.joblib").read_bytes().replace(__version__.encode(), b"9.8.7")
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        joblib.load(tmp_path / "old.joblib")
    assert {str(w.message).split()[1] for w in caught} == {"UnlearnableClassifier", "FineTune"}
    assert {w.category for w in caught} == {InconsistentVersionWarning}
