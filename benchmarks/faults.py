# Run: python -m benchmarks.faults
"""Faults in the middle of a verb leave the old state of an estimator or the new one: count them.

Each row of the table is one kind of fault and one verb.

- *line*: KeyboardInterrupt, SystemExit and MemoryError before every line of the package that the verb executes, each
  at its first, middle and last time.
- *timer*: an exception from the handler of a timer that rings at a random moment.
- *timer, twice*: the timer rings again 5 to 300 microseconds later.
- *two threads*: two verbs that start together must end as one after the other does, or, with two estimators, as each
  does alone; predictions meanwhile must be the old model's or the new one's.

The state is everything that the estimator's attributes hold, to the last bit, but times and free memory. "Left behind"
counts what the process has in common for all and did not find as it was: generators, modes, switches, locks.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings

import numpy as np
import torch

from benchmarks._faults import (
    SITUATIONS,
    DropoutNet,
    NoisyNet,
    NormNet,
    Situation,
    Tally,
    Trial,
    X,
    X_other,
    fitted,
    line_strikes,
    pairs_of_estimators,
    pairs_of_requests,
    predictions_meanwhile,
    strike_by_timer,
    strike_lines,
    unfitted,
    y,
    y_other,
)

KINDS = ("line", "timer", "timer, twice", "two threads")


def thread_pairs(n: int) -> dict[str, Tally]:
    """Return the tallies of pairs of threads, by what they do."""
    norm, dropout, noisy = (copy.deepcopy(fitted(module)) for module in (NormNet, DropoutNet, NoisyNet))
    tallies = {
        "forget, forget": pairs_of_requests(n, lambda e: e.forget(X[2:4]), lambda e: e.forget(X[4:6]), norm),
        "forget, partial_fit": pairs_of_requests(
            n // 4, lambda e: e.forget(X[2:4]), lambda e: e.partial_fit(X[:5] + 1, y[:5], sample_id=range(40, 45)), norm
        ),
        "fit, fit of another": pairs_of_estimators(
            n // 4,
            (unfitted(DropoutNet), lambda e: e.fit(X, y)),
            (unfitted(NormNet), lambda e: e.fit(X_other, y_other)),
        ),
        "fit, forget of another": pairs_of_estimators(
            n // 4, (unfitted(DropoutNet), lambda e: e.fit(X, y)), (noisy, lambda e: e.forget(X[2:4]))
        ),
        "forget, forget of another": pairs_of_estimators(
            n // 4, (noisy, lambda e: e.forget(X[2:4])), (dropout, lambda e: e.forget(X[4:6]))
        ),
    }
    for name, verb in {
        "fit": lambda e: e.fit(X + 1, y[::-1]),
        "partial_fit": lambda e: e.partial_fit(X[:5] + 1, y[:5], sample_id=range(40, 45)),
        "forget": lambda e: e.forget(X[2:6]),
    }.items():
        tallies[f"{name}, predictions"] = predictions_meanwhile(n // 8, dropout, verb)
    return tallies


def printed(kind: str, situation: str, verb: str, tally: Tally, seconds: float) -> None:
    """Print a row of the table, and below it the first cases that are neither old nor new."""
    numbers = [tally.injected, tally.struck, tally.old, tally.new, len(tally.neither), len(tally.left_behind)]
    print("| " + " | ".join([kind, situation, verb, *map(str, numbers), f"{seconds:.0f}"]) + " |", flush=True)
    for case in [*tally.neither[:5], *tally.left_behind[:5]]:
        print(f"<!-- {case} -->", flush=True)


def verbs(situations: list[str], only: list[str]) -> list[tuple[Situation, str]]:
    return [(SITUATIONS[s], verb) for s in situations for verb in SITUATIONS[s].verbs if not only or verb in only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="signals of a timer for each kind, over all verbs")
    parser.add_argument("--pairs", type=int, default=200, help="pairs of simultaneous forget")
    parser.add_argument("--errors", type=int, choices=(1, 2, 3), default=3, help="at each line; fewer than 3 in turn")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--situations", nargs="+", choices=list(SITUATIONS), default=list(SITUATIONS))
    parser.add_argument("--verbs", nargs="+", default=[], help="default: all of each situation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = verbs(options.situations, options.verbs)
    print("| fault | situation | verb | injected | struck | old | new | neither | left behind | s |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    total: dict[str, Tally] = {}
    for kind in options.kinds:
        if kind == "two threads":
            started = time.perf_counter()
            for name, tally in thread_pairs(options.pairs).items():
                printed(kind, "", name, tally, time.perf_counter() - started)
            continue
        for situation, verb in chosen:
            started, trial = time.perf_counter(), Trial(situation, verb)
            if kind == "line":
                tally = strike_lines(trial, line_strikes(trial, options.errors))
            else:
                n = -(-options.n // len(chosen))
                tally = strike_by_timer(trial, n, options.seed, twice=kind == "timer, twice")
            printed(kind, situation.name, verb, tally, time.perf_counter() - started)
            sums = total.setdefault(kind, Tally())
            for name in ("injected", "struck", "old", "new", "neither", "left_behind"):
                setattr(sums, name, getattr(sums, name) + getattr(tally, name))
    print()
    for kind, tally in total.items():
        print(
            f"{kind}: {tally.injected} injected, {tally.struck} struck, {tally.old} old, {tally.new} new, "
            f"{len(tally.neither)} neither, {len(tally.left_behind)} left something behind"
        )


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
