"""The classifier of many shards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context

from sk_unlearn.estimators.classifier import UnlearnableClassifier
from sk_unlearn.estimators.shards._told import live
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.utils._lock import one_at_a_time

__all__ = ["ShardedClassifier"]


class ShardedClassifier(ClassifierMixin, BaseSharded):
    """A classifier of many :class:`UnlearnableClassifier`, each trained on its own shard of the rows.

    A request concerns the shards that hold its rows, and each of these is trained anew on the rows it is left with:
    afterwards the model is what ``fit`` makes of all rows that are left, bit for bit, for the price of a few shards.
    The scheme is that of SISA [1]_. Probabilities are the mean of those of the shards.

    Parameters
    ----------
    estimator : UnlearnableClassifier, default=None
        What each shard gets a clone of, with a seed of its own; None is :class:`UnlearnableClassifier` with its
        defaults.

    n_shards : int, default=5
        Number of shards. With more of them a request is cheaper, and each shard learns from fewer rows.

    n_slices : int, default=1
        Number of slices of each shard. With more than one a shard is trained on its first slice, then on the first two,
        and so on, and keeps its parameters after each stage. A request that trains it anew goes on from the last stage
        that knew none of the rows. A stage has its share of the ``max_epochs`` of the net, so that all stages take as
        many steps as one training at once; give ``max_epochs`` a number, for the built-in network makes more of few
        rows. Parameters that slices have saved go into memory and files `n_slices` - 1 times.

    unlearner : Unlearner, default=None
        How a shard forgets. None trains it anew, which is exact; another one may be cheaper, and its guarantees are
        those that it gives for each shard.

    n_jobs : int, default=None
        How many shards are trained at a time, in processes of joblib's. None is 1, unless a ``joblib.parallel_config``
        says otherwise.

    random_state : int, RandomState instance or None, default=None
        From which the seeds of the shards follow, and which shard a row belongs to.

    Attributes
    ----------
    estimators_ : list of UnlearnableClassifier or None
        The shards; None where one has no rows. A request puts others in the place of those that held its rows.

    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the columns of ``predict_proba``. Every shard knows all of them.

    n_features_in_ : int
        Size of the second axis of X.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, when X had string column names.

    training_set_ : ShardRows
        The rows that may still matter, one shard after the other; to be read.

    sharded_state_ : ShardedState
        The seed and the number of shards. To be read, not changed.

    unlearning_report_ : UnlearningReport
        What the last request did, in all shards together. Absent before the first.

    unlearning_history_ : list of UnlearningReport
        All requests since ``fit``.

    receipts_ : ReceiptChain
        A receipt for each request since ``fit``: see :doc:`/receipts`.

    receipt_key_ : bytes
        The secret key of the digests in ``receipts_``, drawn at ``fit``.

    retrain_recommended_ : RetrainAdvice
        Whether :meth:`retrain` is due for a shard, and why.

    certificate_ : Certificate
        That nothing depends on the erased rows, and what that rests on. Absent where an unlearner does not say so of
        each shard.

    See Also
    --------
    ShardedRegressor : The same for regression.

    Notes
    -----
    Which shard a row belongs to is decided by a hash of its identifier, or of its content where there are no
    identifiers, keyed with the seed. No other row has a say in it, so that what a request leaves does not even show how
    the erased rows had moved others. Shards differ in size by chance.

    References
    ----------
    .. [1] Bourtoule et al., "Machine unlearning", IEEE Symposium on Security and Privacy 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import ShardedClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> est = ShardedClassifier(n_shards=3, random_state=0).fit(X, y)
    >>> est = est.forget(X[:1])
    >>> est.unlearning_report_.extra["n_shards_touched"]
    1
    >>> est.certificate_.kind
    'exact'
    """

    _classifier = True
    _shard_kind = UnlearnableClassifier

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
    ) -> ShardedClassifier:
        """Train the shards that further rows belong to for one pass over these.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows.

        y : array-like of shape (n_samples,)
            Labels.

        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call, if not all are in y.

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
        """
        again = classes is not None and self.__sklearn_is_fitted__()
        if again and set(np.asarray(classes).tolist()) != set(self.classes_.tolist()):
            raise ValueError("classes differs from the labels of the first call: leave it out, or fit a new estimator.")
        self._partial_fit(X, y, classes, sample_weight, sample_id)
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict class probabilities: the mean of those of the shards.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of ``classes_``.
        """
        now = self._pinned()
        X = now._validate_features(X)
        return np.mean([shard.predict_proba(X) for shard in live(now.estimators_)], axis=0)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels: those of the highest mean probability.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        now = self._pinned()
        return now.classes_[now.predict_proba(X).argmax(axis=1)]
