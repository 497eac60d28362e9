"""The classifier that can forget."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from skorch import NeuralNetBinaryClassifier

from sk_unlearn.estimators._inputs import predicted
from sk_unlearn.estimators._validation import validated
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.lookup import codes_of
from sk_unlearn.utils._lock import one_at_a_time

__all__ = ["UnlearnableClassifier"]


class UnlearnableClassifier(ClassifierMixin, BaseUnlearnable):
    """A neural-network classifier that can forget rows it was trained on.

    It wraps any skorch net. After ``fit``, :meth:`forget` undoes the influence of training rows by solving for the
    change with a cubic-regularised Newton method, at a fraction of the cost of retraining.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, torch.nn.Module or subclass of it, default=None
        The network. It is cloned and never touched. None is :class:`MLPNetClassifier` with its defaults, a small
        multi-layer perceptron (in float32 for float32 data, else in float64) that standardises its input. A module,
        which must return logits, is wrapped in a skorch net (Adam, its rate falling from 3e-3 to zero, weight decay
        1e-4); a module *instance* starts from its present weights in every ``fit``. Arguments ``n_features_in`` (size
        of the second axis of X) and ``n_outputs`` (number of classes) of the module's constructor are filled in when it
        takes them and they are not set.

    unlearner : Unlearner, default=None
        The algorithm that forgets; see :mod:`sk_unlearn.unlearners`. None is
        :class:`~sk_unlearn.unlearners.StoCuReNU` with its defaults.

    keep_training_set : bool, default=True
        Keep a copy of the training rows, which lets :meth:`forget` find them and work most exactly. False keeps none,
        only the training residual and a curvature sketch (34 vectors of the size of the parameters, whatever the
        number of rows); then :meth:`partial_forget` is the way to forget.

    keep_initial : bool, default=True
        Keep the parameters that training starts from (as many numbers as there are parameters, in memory and in files)
        and the rates of its steps, for unlearners that go back there.

    hash_ids : bool, default=False
        Keep keyed digests of the identifiers (``sample_id``) in place of the identifiers themselves.

    device : str or torch.device, default=None
        Where to compute. None leaves it to the net.

    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, the order of the batches, and the sampling of rows in :meth:`forget`.

    memory : str or joblib.Memory, default=None
        Where ``fit`` keeps the networks it trains, and finds them when the same rows, settings and seed come again, as
        they do for every candidate of a `GridSearchCV` over unlearners: parameters of the unlearner that have no part
        in training are left out of the key. `random_state` must be an int for anything to be found. A network that
        is found is not trained again, and its callbacks are not called. What is kept was trained on rows that
        :meth:`forget` may take out later, and no request reaches it: clear the cache (``joblib.Memory.clear``, or
        delete the folder) when a search has ended, when rows must be erased, and when the code of a module has changed.
        Ctrl-C raises, rather than keep a network that is half trained.

    verbose : int or None, default=None
        1 prints a table with a line per step while forgetting (and, for a network built here, per epoch of training); 0
        shows nothing. None shows a bar in a terminal or a notebook only, for a request that takes more than a second.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels. A class that was forgotten entirely stays in the list.

    net_ : skorch.NeuralNet
        The fitted net, with its history and callbacks. It stays the same object; a request replaces its ``module_``.

    n_features_in_ : int
        Size of the second axis of X.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, when X had string column names.

    training_set_ : TrainingSet
        The rows that may still matter, with targets as class numbers. Absent with ``keep_training_set=False``.

    unlearning_state_ : FittedState
        What later requests start from, such as the seed and the gradient that training left. To be read, not changed.

    unlearning_report_ : UnlearningReport
        What the last request did. Absent before the first.

    unlearning_history_ : list of UnlearningReport
        All requests since ``fit``. Only the last one keeps its texts, ``extra`` and trace; ``receipts_`` has the
        reasons and notes of all.

    receipts_ : ReceiptChain
        A receipt for each request since ``fit``: see :doc:`/receipts`.

    receipt_key_ : bytes
        The secret key of the digests in ``receipts_``, drawn at ``fit``. Whoever has it can tell whether a row was
        erased; it goes into pickles.

    certificate_ : Certificate
        What is guaranteed, and what that rests on. Absent where nothing is; asking for it then says why.

    See Also
    --------
    UnlearnableRegressor : The same for regression.

    Notes
    -----
    The network is the one skorch would have trained from the same seed: rows held out by the net's ``train_split`` or
    skipped by ``drop_last=True`` are known as such, and forgetting them moves no parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> est = est.forget(X[:3])
    >>> len(est.training_set_)
    147
    >>> est.forget(X[:1])
    Traceback (most recent call last):
    ...
    ValueError: X_del: 1 of 1 rows cannot be found: 1 not among the stored rows (index 0)...
    """

    _classifier = True

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None = None) -> NDArray[Any]:
        validated("y", y, lambda: check_classification_targets(y))
        y = column_or_1d(y, warn=True)
        labels = np.unique(y)
        if classes is not None:
            given = np.unique(np.asarray(classes))
            missing = np.setdiff1d(labels, given)
            if len(missing):
                raise ValueError(f"classes must hold every label in y; {len(missing)} of {len(labels)} are missing.")
            labels = given
        binary = isinstance(self.estimator, NeuralNetBinaryClassifier)
        if binary and len(labels) != 2:
            raise ValueError(f"NeuralNetBinaryClassifier separates 2 classes, and y has {len(labels)}.")
        self.classes_ = labels
        return np.searchsorted(labels, y)

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        # By Python's equality, as identifiers: 1 and 1.0 are one label, 1 and "1" are two. In a list they stay what
        # they are.
        given = np.asarray(y, dtype=object) if isinstance(y, list | tuple) else y
        labels = validated(name, y, lambda: column_or_1d(given, warn=True), called="y")
        codes = codes_of(self.classes_, labels)
        unknown = np.flatnonzero(codes < 0).tolist()
        if unknown:
            raise ValueError(
                f"{name} holds labels that fit has not seen, in {len(unknown)} of {len(labels)} rows (the first at "
                f"index {unknown[0]}); the labels that this estimator was fitted on are {_some(self.classes_)}. If "
                "another estimator fitted it on labels of its own, pass those."
            )
        return codes

    @_fit_context(prefer_skip_nested_validation=True)
    @one_at_a_time
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_id: ArrayLike | None = None,
    ) -> UnlearnableClassifier:
        """Train for one pass over further rows, which then belong to the training set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows, in any form that :meth:`fit` takes.

        y : array-like of shape (n_samples,)
            Labels.

        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call, if not all are in y. In later calls, and after
            ``fit``, it may be left out and must not differ.

        sample_weight, sample_id : array-like of shape (n_samples,), default=None
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            For invalid data, a label that is not among the classes, or other classes than those known. Nothing has
            changed then.

        Notes
        -----
        All rows are trained on and none is held out, so that callbacks which monitor a measure of held-out rows
        (``EarlyStopping`` or ``Checkpoint`` on ``"valid_loss"``) sit this pass out. The pass is carried out whole or
        not at all: an exception leaves the estimator as it was.

        The training residual is taken anew over all stored rows, at the next request. With
        ``keep_training_set=False`` it is updated from the rows of the call alone, as rows that have not come before.

        Learning rates are those of the net's settings, and schedulers begin at their start, however low a schedule
        had ended; what the optimiser has accumulated stays. Rates that are zero in every step are refused.

        Further passes over the same rows store nothing twice. A row is the same when content, target, weight and,
        where there are any, identifier are. With ``sample_id``, a row is stored as often as it came in one call.
        Without, nobody can tell another person's equal row from another pass over a stored one: a call in which every
        row is stored already, at least as often as it comes, stores nothing, and any other call is stored whole.
        """
        again = classes is not None and self.__sklearn_is_fitted__()
        if again and set(np.asarray(classes).tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                f"classes differs from the labels that this estimator knows, {_some(self.classes_)}: leave it out, or "
                "fit a new estimator."
            )
        self._partial_fit(X, y, classes, sample_weight, sample_id)
        return self

    @property
    def _n_outputs(self) -> int:
        return 1 if isinstance(self.estimator, NeuralNetBinaryClassifier) else len(self.classes_)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows, in any form that :meth:`fit` takes.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``. Outputs that a module has beyond them, such as one built for ten
            classes and fitted on nine, stand for no class and are left out; the others then sum to one.
        """
        now = self._pinned()
        proba = predicted(now.net_.predict_proba, now._validate_features(X))
        n_classes = len(now.classes_)
        if proba.ndim != 2 or proba.shape[1] <= n_classes:
            return proba
        known = proba[:, :n_classes]
        total = known.sum(axis=1, keepdims=True)
        return np.divide(known, total, out=np.full_like(known, 1 / n_classes), where=total > 0)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows, in any form that :meth:`fit` takes.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        now = self._pinned()
        codes = predicted(now.net_.predict, now._validate_features(X)).astype(np.int64)
        if codes.size and codes.max() >= len(now.classes_):  # an output that stands for no class
            codes = now.predict_proba(X).argmax(axis=1)
        return now.classes_[codes]


def _some(labels: NDArray[Any]) -> str:
    shown = ", ".join(map(repr, labels[:10].tolist()))
    return f"[{shown}{', ...' if len(labels) > 10 else ''}]"
