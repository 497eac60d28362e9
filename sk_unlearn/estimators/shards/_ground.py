"""What the verbs of the estimators of many shards stand on: shards, rows that are found, and requests to several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators._draft import Draft
from sk_unlearn.estimators._inputs import InputsMixin
from sk_unlearn.estimators._notes import told_of_files
from sk_unlearn.estimators._orders import Order
from sk_unlearn.estimators._receipts import versions
from sk_unlearn.estimators._slices import Slicing
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.fitting import draft_of
from sk_unlearn.estimators.notebook import InNotebookMixin
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.estimators.shards._found import all_found
from sk_unlearn.estimators.shards._routing import ShardedState
from sk_unlearn.estimators.shards._rows import Freed, ShardRows
from sk_unlearn.estimators.shards._told import (
    Touched,
    all_freed,
    digest_of_shards,
    freed_outside,
    live,
    receipt_of_all,
    report_of_all,
)
from sk_unlearn.estimators.shards._work import Training, Work, all_done, all_trained
from sk_unlearn.receipts import ReceiptChain
from sk_unlearn.rows import OutsideRows, as_identifiers
from sk_unlearn.rows.digests import new_key
from sk_unlearn.rows.outside import merged
from sk_unlearn.unlearners.base import Unlearner
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.utils._checksum import ChecksummedMixin
from sk_unlearn.utils._journal import Journal, commit_together
from sk_unlearn.utils._versioned import VersionedMixin
from sk_unlearn.utils._whole_copies import WholeCopyMixin

__all__ = ["Ground"]


class Ground(VersionedMixin, ChecksummedMixin, WholeCopyMixin, InputsMixin, InNotebookMixin, BaseEstimator):
    """An estimator of many shards as its verbs see it. See `BaseSharded`."""

    _journal: Journal
    _receipt_key: bytes
    _orders: tuple[Order, ...]
    _freed: Freed
    _shard_kind: type[BaseUnlearnable]
    # Shards are trained anew on their rows: no parameter turns that off.
    keep_training_set = True
    estimators_: list[BaseUnlearnable | None]
    sharded_state_: ShardedState
    unlearning_history_: list[UnlearningReport]
    receipts_: ReceiptChain

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  scikit-learn's convention
        "estimator": "no_validation",  # by `_template`, which says what to do with a net
        "n_shards": [Interval(Integral, 1, None, closed="left")],
        "n_slices": [Interval(Integral, 1, None, closed="left")],
        "unlearner": [Unlearner, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        n_shards: int = 5,
        n_slices: int = 1,
        *,
        unlearner: Unlearner | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.unlearner = unlearner
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _first_trained(
        self, X: Any, y: Any, classes: Any, sample_weight: Any, sample_id: Any, *, one_pass: bool
    ) -> Any:
        """Train all shards for the first time, in a draft."""
        template = self._template()
        X, y, weight = self._validate_training_rows(X, y, sample_weight, reset=True, net=template.estimator)
        learner: Any = draft_of(template)
        learner._learn_targets(y, classes)
        for name in ("classes_", "target_shape_"):
            if name in vars(learner):
                setattr(self, name, vars(learner)[name])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.sharded_state_ = ShardedState(
            seed, self.n_shards, self.n_slices, isinstance(self.random_state, Integral)
        )  # fmt: skip
        self._receipt_key = new_key()
        self.estimators_ = [None] * self.n_shards
        self.estimators_ = self._with_rows(X, y, weight, as_identifiers(sample_id, len(X)), one_pass=one_pass)
        self._journal = Journal()
        self._orders = ()
        self._freed = ()
        self.unlearning_history_ = []
        self.receipts_ = ReceiptChain.begin(digest_of_shards(self.estimators_), versions())
        return self

    def _template(self) -> BaseUnlearnable:
        """Return the estimator that every shard gets a clone of."""
        if self.estimator is not None and not isinstance(self.estimator, self._shard_kind):
            raise TypeError(
                f"estimator must be a {self._shard_kind.__name__}, which each shard gets a clone of, got "
                f"{type(self.estimator).__name__}; wrap a net or a module as {self._shard_kind.__name__}(net)."
            )
        template: Any = self._shard_kind() if self.estimator is None else clone(self.estimator)
        if not template.keep_training_set:
            raise ValueError(
                "estimator has keep_training_set=False: shards are trained anew on their rows, which have to be kept."
            )
        if template.unlearner is not None:
            raise ValueError(
                f"estimator has unlearner={type(template.unlearner).__name__}: how shards forget is said by unlearner "
                f"of {type(self).__name__}, where None trains them anew."
            )
        return template.set_params(unlearner=self._unlearner())

    def _new_shard(self, number: int) -> BaseUnlearnable:
        state = self.sharded_state_
        shard: BaseUnlearnable = self._template().set_params(random_state=state.seed_of(number))
        shard._is_shard = True
        if state.n_slices > 1:
            # Identifiers that are kept as digests have another key after every fit, and would be sliced otherwise.
            shard._slicing = Slicing(state.seed_of(number), state.n_slices, not shard.hash_ids)
        return shard

    def _unlearner(self) -> Unlearner:
        return Retrain() if self.unlearner is None else clone(self.unlearner)

    def _with_rows(
        self, X: Any, y: NDArray[Any], weight: Any, ids: Any, *, one_pass: bool
    ) -> list[BaseUnlearnable | None]:
        """Return all shards as they are with further rows."""
        if self._shard_kind._classifier and y.ndim == 2:
            y = y[:, 0]
        if isinstance(X, OutsideRows):  # one object for each file, of which all shards tell what they need of it
            known = merged(
                [source for each in live(self.estimators_) for source in each.training_set_.sources], X.sources
            )
            X = X.read_from([next(one for one in known if one.is_same(each)) for each in X.sources])
        state = self.sharded_state_
        numbers = state.shard_of(X, ids)
        trainings, at = [], np.unique(numbers).tolist()
        for number in at:
            rows = np.flatnonzero(numbers == number)
            if weight is not None and not weight[rows].any():
                raise ValueError(
                    f"sample_weight is zero for every row of a shard ({len(rows)} rows, {len(at)} shards); leave such "
                    "rows out, or take fewer shards by n_shards."
                )
            present = self.estimators_[number]
            shard = self._new_shard(number) if present is None else present
            trainings.append(
                Training(
                    shard, X[rows], y[rows], None if weight is None else weight[rows],
                    None if ids is None else ids[rows], vars(self).get("classes_"), self._receipt_key, one_pass,
                )
            )  # fmt: skip
        shards = list(self.estimators_)
        for number, shard in zip(at, all_trained(trainings, self.n_jobs), strict=True):
            before = shards[number]
            sources = () if before is None else before.training_set_.sources
            shard.training_set_.read_from(merged(sources, X.sources if isinstance(X, OutsideRows) else ()))
            shards[number] = shard
        return shards

    def _located(self, verb: str, X: Any, y: Any, sample_id: Any, name: str = "X_del") -> dict[int, NDArray[np.int64]]:
        """Find the rows of a request, all of them, or raise a ValueError: slots by the number of the shard."""
        check_is_fitted(self)
        if X is None and sample_id is None:
            raise ValueError(f"{verb} needs {name} (rows) or sample_id (identifiers given at fit); both are None.")
        if X is None and y is not None:
            raise ValueError(f"{name.replace('X', 'y', 1)} narrows {name}, which is None; pass {name} too.")
        self._check_stored(verb)
        return self._slots_at(all_found(self, X, y, sample_id, name))

    def _slots_at(self, positions: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
        """Return the slots, by the number of the shard, of rows as ``training_set_`` numbers them."""
        numbers = [number for number, shard in enumerate(self.estimators_) if shard is not None]
        slots = zip(numbers, self.training_set_.slots_of(positions), strict=True)
        return {number: at for number, at in slots if len(at)}

    def _check_stored(self, verb: str) -> None:
        if not hasattr(self._one, "training_set_"):
            raise ValueError(
                f"{verb} needs the rows of the shards, which the file was saved without (rows=False): load one that "
                "has them."
            )

    def _drafted(
        self,
        verb: str,
        act: str,
        positions: dict[int, NDArray[np.int64]],
        started: float,
        given: dict[int, dict[str, Any]] | None = None,
        *,
        orders: Sequence[Order] = (),
        state: ShardedState | None = None,
        receipts: ReceiptChain | None = None,
        notes: Sequence[str] = (),
    ) -> Draft:
        """Work out a request to the shards that hold its rows; nothing changes until the draft is committed.

        Parameters
        ----------
        verb : str
            What was asked.

        act : str
            What each shard is asked.

        positions : dict of int to int64 ndarray
            By the number of each shard that is asked, slots of the rows that go or change.

        started : float
            When the request came, by ``time.perf_counter``.

        given : dict of int to dict
            Further arguments, by shard.

        orders : sequence of Order
            The pending requests that it carries out.

        state : ShardedState or None
            As it will be; None as it is.

        receipts : ReceiptChain or None
            To go on with; None for those of this estimator.

        notes : sequence of str
            For the report.
        """
        before, state = self.estimators_, self.sharded_state_ if state is None else state
        goes = act != "correct"
        n_rows = sum(len(shard.training_set_) for shard in live(before))
        if goes and sum(map(len, positions.values())) == n_rows:
            raise ValueError(
                f"The request covers all {n_rows} rows of the training set; nothing would be left to model. "
                "Discard the estimator instead."
            )
        work, olds = [], {}
        for number, slots in positions.items():
            shard = before[number]
            assert shard is not None
            olds[number] = shard
            if not goes or len(slots) < len(shard.training_set_):
                at = np.searchsorted(np.flatnonzero(shard.training_set_.live_mask), slots)
                work.append(Work(number, act, at, {} if given is None else given[number]))
        asked = [self._for_request(olds[each.number]) for each in work]
        done = all_done(
            work, asked, self.n_jobs, verb=verb, verbose=None if self.estimator is None else self.estimator.verbose
        )
        news = dict(zip([each.number for each in work], done, strict=True))
        after = [news.get(number) if number in positions else shard for number, shard in enumerate(before)]
        touched = [Touched(number, olds[number], news.get(number), slots) for number, slots in positions.items()]
        for number, new in news.items():
            new.training_set_.read_from(olds[number].training_set_.sources)
        freed = freed_outside(touched, after)
        unlearner = Retrain() if act == "retrain" else self._unlearner()
        report = report_of_all(
            verb, type(unlearner).__name__, touched, after, state, orders, time.perf_counter() - started
        )  # fmt: skip
        of_files = told_of_files((source.name, numbers, source.is_overwritten) for source, numbers in freed)
        report = replace(report, notes=[*notes, *report.notes, *of_files])
        receipt = receipt_of_all(
            report, touched, before, after, state, orders, unlearner, len(self.unlearning_history_)
        )  # fmt: skip
        own, settled = vars(self), {order.request_id for order in orders}
        assignments = [
            (own, "estimators_", after),
            (own, "sharded_state_", state),
            (own, "_orders", tuple(order for order in self._orders if order.request_id not in settled)),
            (own, "unlearning_report_", report),
            (own, "unlearning_history_", [*(each.brief() for each in self.unlearning_history_), report]),
            (own, "receipts_", (self.receipts_ if receipts is None else receipts).append(receipt)),
        ]
        assignments.append((own, "_freed", all_freed(self._freed, freed)))
        assignments += [each for source, numbers in freed if len(numbers) for each in source.overwriting(numbers)]
        return Draft(self._journal, assignments, report, files=[source for source, _ in freed])

    def _for_request(self, shard: BaseUnlearnable) -> BaseUnlearnable:
        """Return a shard that forgets as ``unlearner`` says now: it may have been set since ``fit``."""
        other: Any = object.__new__(type(shard))
        other.__dict__.update(shard.__dict__)
        other.unlearner = self._unlearner()
        return other

    def _commit_marks(self, assignments: list[Any]) -> None:
        journals = [shard._journal for shard in live(self.estimators_)]
        commit_together([self._journal, *journals], assignments)

    @property
    def _one(self) -> BaseUnlearnable:
        """A shard: what all of them have in common can be asked of it."""
        return live(self.estimators_)[0]

    def _at(self, number: int) -> BaseUnlearnable:
        shard = self.estimators_[number]
        assert shard is not None
        return shard

    @property
    def training_set_(self) -> ShardRows:  # type: ignore[override]
        """The rows that may still matter, one shard after the other; to be read."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("There is no training_set_ before fit.")
        return ShardRows([shard.training_set_ for shard in live(self.estimators_)], self._freed)

    @property
    def hash_ids(self) -> bool:
        """Whether identifiers are kept as digests, as in every shard."""
        return bool(self._one.hash_ids)

    @property
    def unlearning_state_(self) -> Any:  # type: ignore[override]
        """Of one of the shards, whose data type and shape of rows are those of all."""
        check_is_fitted(self)
        return self._one.unlearning_state_

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        return self._one._encode_targets(y, name)

    def _targets_for_net(self, y: Any, X_net: Any, name: str) -> NDArray[Any]:
        return self._one._targets_for_net(y, X_net, name)

    def _pinned(self) -> Any:
        """Return an estimator that predicts as this one does now, whatever is fitted, learnt or forgotten meanwhile."""
        check_is_fitted(self)
        other: Any = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __sklearn_is_fitted__(self) -> bool:
        if "_journal" not in self.__dict__:
            return False
        self._journal.settle()  # where two interrupts struck the same commit
        return True

    def __getstate__(self) -> dict[str, Any]:
        self.__sklearn_is_fitted__()
        state: dict[str, Any] = super().__getstate__()
        return state
