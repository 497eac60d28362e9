"""The regressor that can forget."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import check_array

from sk_unlearn.estimators._inputs import predicted
from sk_unlearn.estimators._validation import check_numbers, listed, validated
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.utils._lock import one_at_a_time

__all__ = ["UnlearnableRegressor"]


class UnlearnableRegressor(RegressorMixin, BaseUnlearnable):
    """A neural-network regressor, for one target or many, that can forget rows it was trained on.

    It wraps any skorch net. After ``fit``, :meth:`forget` undoes the influence of training rows by solving for the
    change with a cubic-regularised Newton method, at a fraction of the cost of retraining.

    Parameters
    ----------
    estimator : skorch.NeuralNetRegressor, torch.nn.Module or subclass of it, default=None
        The network. It is cloned and never touched. None is :class:`MLPNetRegressor` with its defaults, a small
        multi-layer perceptron (in float32 for float32 data, else in float64) that standardises its input and its
        output. A module is wrapped in a skorch net (Adam, its rate falling from 3e-3 to zero, weight decay 1e-4); a
        module *instance* starts from its present weights in every ``fit``. Arguments ``n_features_in`` (size of the
        second axis of X) and ``n_outputs`` (number of targets) of the module's constructor are filled in when it takes
        them and they are not set.

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
    net_ : skorch.NeuralNet
        The fitted net, with its history and callbacks. It stays the same object; a request replaces its ``module_``.

    n_features_in_ : int
        Size of the second axis of X.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, when X had string column names.

    training_set_ : TrainingSet
        The rows that may still matter. Absent with ``keep_training_set=False``.

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
    UnlearnableClassifier : The same for classification.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_unlearn import UnlearnableRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> est = UnlearnableRegressor(random_state=0).fit(X, y)
    >>> est = est.forget(X[:3])
    >>> len(est.training_set_)
    439
    """

    _classifier = False

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None = None) -> NDArray[Any]:
        self.target_shape_: tuple[int, ...] = y.shape[1:]
        return y

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        y = validated(name, y, lambda: check_array(listed(y), ensure_2d=False, dtype="numeric", input_name=name))
        y = check_numbers(name, y)
        if {y.shape[1:], self.target_shape_} == {(), (1,)}:  # one target, flat here and a column there
            return y.reshape(len(y), *self.target_shape_)
        if y.shape[1:] != self.target_shape_:
            raise ValueError(f"{name} has targets of shape {y.shape[1:]}; fit had {self.target_shape_}.")
        return y

    @_fit_context(prefer_skip_nested_validation=True)
    @one_at_a_time
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_id: ArrayLike | None = None,
    ) -> UnlearnableRegressor:
        """Train for one pass over further rows, which then belong to the training set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows, in any form that :meth:`fit` takes.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        sample_weight, sample_id : array-like of shape (n_samples,), default=None
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            For invalid data. Nothing has changed then.

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
        self._partial_fit(X, y, None, sample_weight, sample_id)
        return self

    @property
    def _n_outputs(self) -> int:
        return self.target_shape_[0] if self.target_shape_ else 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Rows, in any form that :meth:`fit` takes.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            As many targets as y had in ``fit``.
        """
        now = self._pinned()
        prediction = predicted(now.net_.predict, now._validate_features(X))
        return prediction.reshape(len(prediction), *now.target_shape_)
