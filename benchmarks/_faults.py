# Part of: python -m benchmarks.faults
"""Faults on purpose, and what an estimator is afterwards: the harness of ``benchmarks.faults`` and ``tests/faults``.

A fault strikes while a verb (fit, partial_fit, forget, partial_forget, correct, settle, retrain) is under way.
Afterwards the estimator must be the old one or the new one, in every bit of its state, as read from its plain
attributes.
"""

from __future__ import annotations

import copy
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.receipts import ReceiptChain, verify
from sk_unlearn.unlearners import Retrain, StoCuReNU
from sk_unlearn.utils._random import seeded_torch

PACKAGE = str(Path(sk_unlearn.__file__).parent)
ERRORS: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, MemoryError)
Verb = Callable[[Any], Any]


# ----------------------------------------------------------------------------------------------------------- situations


class DropoutNet(nn.Module):
    """Draws random numbers while it is trained."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features_in, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, n_outputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X)


class NormNet(nn.Module):
    """Has statistics beside its parameters."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_features_in, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, n_outputs)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.norm(self.first(X))))


class NoisyNet(NormNet):
    """Draws random numbers whenever it is evaluated."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return super().forward(X + 0.01 * torch.randn_like(X))


_rng = np.random.default_rng(1)
X = _rng.normal(size=(40, 3))
y = (X[:, 0] > 0).astype(int)
X_other, y_other = _rng.normal(size=(30, 2)), np.array(["a", "b", "c"])[_rng.integers(3, size=30)]


def unfitted(module: type[nn.Module], unlearner: Any = None, *, keep_training_set: bool = True) -> Any:
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.05, max_epochs=2, batch_size=10,
        train_split=None, verbose=0, iterator_train__shuffle=True,
    )  # fmt: skip
    return UnlearnableClassifier(
        net, StoCuReNU(max_steps=1) if unlearner is None else unlearner, keep_training_set=keep_training_set,
        random_state=0,
    )  # fmt: skip


def fitted(module: type[nn.Module], unlearner: Any = None, *, keep_training_set: bool = True) -> Any:
    """Return one that has learnt and forgotten, and whose optimiser, which a request empties, has something to lose."""
    est = unfitted(module, unlearner, keep_training_set=keep_training_set)
    est.fit(X[:30], y[:30], sample_id=np.arange(30)).partial_forget(X[:2], y[:2])
    return est.partial_fit(X[30:], y[30:], sample_id=np.arange(30, 40))


def with_requests(est: Any) -> Any:
    """Return it with two requests that wait, and that name a row in common."""
    est.request_forget(X[2:6])
    est.request_forget(sample_id=[5, 31])
    return est


@dataclass(frozen=True)
class Situation:
    """An estimator, and what is asked of it."""

    name: str
    build: Callable[[], Any]
    verbs: dict[str, Verb]


_REFIT = {"fit": lambda est: est.fit(X_other, y_other)}
_PARTIAL_FIT = {"partial_fit": lambda est: est.partial_fit(X[:5] + 1, y[:5], sample_id=np.arange(40, 45))}
_STORED = {
    "forget": lambda est: est.forget(X[2:6]),
    "forget by id": lambda est: est.forget(sample_id=[3, 4]),
    "correct": lambda est: est.correct(X[2:4], X_new=X[2:4] + 1, y_new=[0, 1]),
}
_HANDED_IN = {
    "partial_forget": lambda est: est.partial_forget(np.concatenate([X[2:4], X[:2] + 5]), [0, 1, 1, 0]),
}
SITUATIONS = {
    situation.name: situation
    for situation in (
        Situation("BatchNorm", lambda: fitted(NormNet), _REFIT | _PARTIAL_FIT | _STORED | _HANDED_IN),
        Situation("dropout, retrained", lambda: fitted(DropoutNet, Retrain()), {"forget": _STORED["forget"]}),
        Situation(
            "dropout, no rows kept",
            lambda: fitted(DropoutNet, keep_training_set=False),
            _REFIT | _PARTIAL_FIT | _HANDED_IN,
        ),
        Situation(
            "unfitted",
            lambda: unfitted(DropoutNet),
            {"fit": lambda est: est.fit(X, y), "partial_fit": lambda est: est.partial_fit(X, y)},
        ),
        Situation(
            "requests pending",
            lambda: with_requests(fitted(NormNet)),
            {"settle": lambda est: est.settle(), "retrain": lambda est: est.retrain()},
        ),
    )
}


# ---------------------------------------------------------------------------------------------------------- fingerprint

# Times, free memory; modes, which every prediction sets; the look-up of rows, built when it is first needed; and what
# is drawn for receipts from the random source of the system, with what follows from it.
_NOT_STATE = {
    "available", "dur", "seconds", "training", "_row_segments", "_id_segments", "_source_segments", "_live_counts",
    "_trained_counts", "_turns",
    "_receipt_key", "request_id",
    "chain", "began", "received", "completed", "deadline", "previous", "hash", "total",
}  # fmt: skip


def fingerprint(value: Any) -> dict[str, Any]:
    """Return all that an object holds, to the last bit, by where it stands.

    Read from attributes and without calling anything, so that nothing is settled by looking.
    """
    found: dict[str, Any] = {}
    _walk(value, "", found, {})
    return found


def _walk(value: Any, path: str, found: dict[str, Any], seen: dict[int, str]) -> None:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic | torch.dtype):
        found[path] = repr(value)
        return
    if id(value) in seen:
        found[path] = "as " + seen[id(value)]
        return
    seen[id(value)] = path
    found[path] = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, torch.Tensor):
        found[path] += f" {value.dtype} {tuple(value.shape)} {value.requires_grad}"
        found[path + " bits"] = value.detach().numpy().tobytes()
        _walk(value.grad if value.is_leaf else None, path + ".grad", found, seen)
    elif isinstance(value, np.ndarray):
        found[path] += f" {value.dtype} {value.shape}"
        found[path + " bits"] = repr(value.tolist()) if value.dtype == object else value.tobytes()
    elif isinstance(value, ReceiptChain):
        for number, receipt in enumerate(value):
            keyed = {"rows": len(receipt.rows), "ids": len(receipt.ids), "retained_set": receipt.retained_set is None}
            _walk(receipt.to_dict() | keyed, f"{path}[{number}]", found, {})
        _walk(value.beginning, path + " beginning", found, {})
        found[path + " whole"] = verify(value, head=value.head)
        return
    elif isinstance(value, type) or (callable(value) and not hasattr(value, "__dict__")):
        found[path] = getattr(value, "__qualname__", found[path])
    elif isinstance(value, dict):
        # Optimisers hold state by parameter.
        for number, (key, item) in enumerate(value.items()):
            name = key if isinstance(key, str | int) else f"#{number}"
            if name not in _NOT_STATE and not str(name).endswith("time_"):
                _walk(key if name != key else None, f"{path}[{name}] key", found, seen)
                _walk(item, f"{path}[{name}]", found, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for number, item in enumerate(value):
            _walk(item, f"{path}[{number}]", found, seen)
    if hasattr(value, "__dict__") and not isinstance(value, type | torch.Tensor | np.ndarray):
        _walk(vars(value), path + ".", found, seen)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return where two fingerprints differ."""
    return sorted(where for where in one.keys() | other.keys() if one.get(where) != other.get(where))


def surroundings() -> dict[str, Any]:
    """Return what the process has in common for all, and must find as it was."""
    cuda = torch.backends.cuda
    return fingerprint(
        {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002
            "python": random.getstate(),
            "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "attention": (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()),
            "on Ctrl-C": signal.getsignal(signal.SIGINT),
        }
    )


def another_thread_gets_its_turn(est: Any, seconds: float = 20.0) -> bool:
    """Whether another thread may ask the estimator, and train: nothing is locked any more."""
    done = threading.Event()

    def ask() -> None:
        with suppress(ValueError, AttributeError):
            est.forget()  # asks for nothing, which is refused when it has its turn
        with seeded_torch(0):  # as every training does
            done.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return done.is_set()


# -------------------------------------------------------------------------------------------------------------- tallies


@dataclass
class Tally:
    """How faults of one kind ended."""

    injected: int = 0
    struck: int = 0
    old: int = 0
    new: int = 0
    neither: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every one left the old state or the new one, and nothing else."""
        return not self.neither and not self.left_behind and self.injected == self.old + self.new


class Trial:
    """A verb of a situation: the states before and after it, and faults while it is under way."""

    def __init__(self, situation: Situation, verb: str) -> None:
        self.verb = situation.verbs[verb]
        # Copies of a copy: one that was pickled knows its rows without gaps.
        self.original = copy.deepcopy(situation.build())
        self.before = fingerprint(copy.deepcopy(self.original))
        started = time.perf_counter()
        self.after = fingerprint(self._done())
        self.seconds = time.perf_counter() - started
        assert fingerprint(self._done()) == self.after, differences(fingerprint(self._done()), self.after)
        assert self.before != self.after
        self.around = surroundings()

    def _done(self) -> Any:
        est = copy.deepcopy(self.original)
        self.verb(est)
        return est

    def run(self, strike: Callable[[Callable[[], Any]], tuple[bool, BaseException | None]], tally: Tally) -> None:
        """Carry the verb out on a copy under a fault and note how it ended.

        ``strike`` is given what to carry out, and returns whether the fault came and what was raised.
        """
        est = copy.deepcopy(self.original)
        came, error = strike(lambda: self.verb(est))
        if error is not None and not came:
            raise error
        where = "" if error is None or error.__traceback__ is None else _last_line(error)
        if error is not None:  # it holds the frames that were struck, and with them contexts that wait to end
            traceback.clear_frames(error.__traceback__)
        tally.injected += 1
        tally.struck += came
        now = fingerprint(est)
        if now == self.before:
            tally.old += 1
        elif now == self.after:
            tally.new += 1
        else:
            tally.neither.append(f"{where}: {min(differences(now, s)[:3] for s in (self.before, self.after))}")
        if not another_thread_gets_its_turn(est):
            tally.left_behind.append(f"{where}: a lock")
        around = differences(surroundings(), self.around)
        if around:
            tally.left_behind.append(f"{where}: {around[:3]}")
            self.around = surroundings()


def _last_line(error: BaseException) -> str:
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# --------------------------------------------------------------------------------------------------------- line by line

Line = tuple[str, int]


@contextmanager
def _tracing(trace: Callable[..., Any]) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def lines_of(action: Callable[[], Any]) -> Counter[Line]:
    """Carry something out and return how often each line of the package came."""
    counts: Counter[Line] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            counts[frame.f_code.co_filename, frame.f_lineno] += 1
        return trace

    with _tracing(trace):
        action()
    return counts


def strike_at(line: Line, occurrence: int, error: type[BaseException]) -> Any:
    """Return a strike that raises an error before a line, when it comes for the n-th time."""
    file, number = line

    def strike(action: Callable[[], Any]) -> tuple[bool, BaseException | None]:
        left = occurrence

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != file:
                return None
            if event == "line" and frame.f_lineno == number:
                left -= 1
                if left == 0:
                    raise error
            return trace

        try:
            with _tracing(trace):
                action()
        except BaseException as raised:
            return left <= 0, raised
        return left <= 0, None

    return strike


def line_strikes(trial: Trial, n_errors: int = len(ERRORS)) -> list[tuple[Line, int, type[BaseException]]]:
    """Return every line of a clean run, at its first, middle and last time, with some kinds of error in turn."""
    est = copy.deepcopy(trial.original)
    counts = lines_of(lambda: trial.verb(est))
    places = [(line, k) for line, n in sorted(counts.items()) for k in sorted({1, (n + 1) // 2, n})]
    return [
        (line, k, ERRORS[(number + shift) % len(ERRORS)])
        for number, (line, k) in enumerate(places)
        for shift in range(n_errors)
    ]


def strike_lines(trial: Trial, strikes: Sequence[tuple[Line, int, type[BaseException]]]) -> Tally:
    tally = Tally()
    for line, occurrence, error in strikes:
        trial.run(strike_at(line, occurrence, error), tally)
    return tally


# ---------------------------------------------------------------------------------------------------------------- timer


class Alarm(Exception):  # noqa: N818  it is a signal that came and no error
    """Raised by the handler of a signal."""


@contextmanager
def _handling(number: int, handler: Any) -> Iterator[None]:
    # What strikes in a destructor cannot be raised, and need not be printed.
    before, hook = signal.signal(number, handler), sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        signal.signal(number, before)
        sys.unraisablehook = hook


def ring_after(seconds: float, error: type[BaseException], again: float | None = None) -> Any:
    """Return a strike that raises an error when a timer rings, and once more ``again`` seconds later."""

    def strike(action: Callable[[], Any]) -> tuple[bool, BaseException | None]:
        rang = 0

        def ring(signum: int, frame: FrameType | None) -> None:
            nonlocal rang
            rang += 1
            if again is not None and rang == 1:
                signal.setitimer(signal.ITIMER_REAL, again)
            raise error

        raised: BaseException | None = None
        with _handling(signal.SIGALRM, ring):
            # It may ring on the way out too, and once more in the handler of the first.
            try:
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, seconds)
                        action()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except BaseException as first:
                    raised = first
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except BaseException as second:
                raised = second
                signal.setitimer(signal.ITIMER_REAL, 0)
        return rang > 0, raised

    return strike


def strike_by_timer(trial: Trial, n: int, seed: int, *, twice: bool = False) -> Tally:
    """Let a timer ring n times, each at a random moment of the verb."""
    rng, tally = np.random.default_rng(seed), Tally()
    # What the time of one run is now: the machine may be busy.
    for k in range(n):
        again = float(rng.uniform(5e-6, 3e-4)) if twice else None
        error = (Alarm, *ERRORS)[k % 4]
        trial.run(ring_after(float(rng.uniform(1e-5, trial.seconds)), error, again), tally)
    return tally


# -------------------------------------------------------------------------------------------------------------- threads


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Carry actions out in threads that start together, and return what they return."""
    start, results, errors = threading.Barrier(len(actions)), [None] * len(actions), []

    def work(k: int) -> None:
        try:
            start.wait()
            results[k] = actions[k]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(actions))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
    return results


def pairs_of_requests(n: int, one: Verb, other: Verb, original: Any) -> Tally:
    """Ask one estimator for two things at once, and compare with what comes of one after the other."""
    orders = []
    for verbs in ((one, other), (other, one)):
        est = copy.deepcopy(original)
        for verb in verbs:
            verb(est)
        orders.append(fingerprint(est))
    tally = Tally()
    for k in range(n):
        est = copy.deepcopy(original)
        asked = [lambda est=est: one(est), lambda est=est: other(est)]
        at_once(*(asked if k % 2 else asked[::-1]))
        _note(tally, fingerprint(est), orders)
    return tally


def pairs_of_estimators(n: int, one: tuple[Any, Verb], other: tuple[Any, Verb]) -> Tally:
    """Ask two estimators at once, and compare each with what comes of it alone."""
    alone = []
    for original, verb in (one, other):
        est = copy.deepcopy(original)
        verb(est)
        alone.append(fingerprint(est))
    tally = Tally()
    for _ in range(n):
        pair = [copy.deepcopy(original) for original, _ in (one, other)]
        at_once(lambda pair=pair: one[1](pair[0]), lambda pair=pair: other[1](pair[1]))
        now = fingerprint(pair)
        _note(tally, now, [fingerprint(pair)] if [fingerprint(est) for est in pair] == alone else [])
    return tally


def predictions_meanwhile(n: int, original: Any, verb: Verb) -> Tally:
    """Predict in another thread while a verb is under way: every prediction is the old model's or the new one's."""
    done = copy.deepcopy(original)
    verb(done)
    rows = X[:, : original.n_features_in_]
    alone, states = fingerprint(done), [_served(copy.deepcopy(original), rows), _served(done, rows)]
    tally = Tally()
    for _ in range(n):
        est, over = copy.deepcopy(original), threading.Event()

        def act(est: Any = est, over: threading.Event = over) -> None:
            try:
                verb(est)
            finally:
                over.set()

        def look(est: Any = est, over: threading.Event = over) -> list[bytes]:
            seen = []
            while not over.is_set():
                seen.append(_served(est, rows))
            return seen

        _, seen = at_once(act, look)
        right = all(each in states for each in seen) and seen == sorted(seen, key=states.index)
        now = fingerprint(est)
        _note(tally, now, [alone] if right else [])
    return tally


def _served(est: Any, rows: Any) -> bytes:
    return bytes(est.predict_proba(rows).tobytes())


def _note(tally: Tally, now: dict[str, Any], serial: Sequence[dict[str, Any]]) -> None:
    tally.injected += 1
    tally.struck += 1
    if now in serial:
        tally.new += 1
    else:
        tally.neither.append(f"{min((differences(now, s)[:3] for s in serial), default=['not as alone'])}")
