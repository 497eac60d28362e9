# Part of: benchmarks.every_layer, benchmarks.readme (python -m benchmarks.every_layer)
"""The ways to forget that `benchmarks.every_layer` compares, a family each; to add one, add an entry to `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks._rivals import NO_OP, OURS, ContinueLBFGS, Method, WarmStart, default_method
from sk_unlearn import unlearners
from sk_unlearn.unlearners import FineTune, Retrain, StoCuReNU

RATES = (1 / 3, 1.0, 3.0)  # times the net's rate, among which fine-tuning is tuned
SHARES = (0.2, 0.3, 0.5)
SHARED, STAGES, PUBLISHED = "short retraining", "by hand", "published"


def fine_tuning(epochs: int, lr: float, budget: float, quick: bool) -> Iterator[Method]:
    """Yield fine-tuning of several lengths up to the budget, each at several rates."""
    lengths = {max(round(budget * epochs * part, 3), 0.02) for part in ((1,) if quick else (0.25, 0.5, 1))}
    for length in sorted(length if length < 1 else round(length) for length in lengths):
        if length < 1:
            yield Method(f"warm start, {length:g} epochs", "fine-tuning", WarmStart(length), length)
            continue
        for factor in (1.0,) if quick else RATES:
            unlearner = FineTune(int(length), learning_rate=factor * lr)
            yield Method(f"fine-tuning, {length} epochs, rate x {factor:.2g}", "fine-tuning", unlearner, length)


def lbfgs(epochs: int, lr: float, budget: float, quick: bool) -> Iterator[Method]:
    """Yield L-BFGS over all rows; an iteration takes an epoch at most, and far less where batches are small."""
    for iterations in (5, 20, 50):
        if iterations <= 4 * budget * epochs:
            yield Method(f"L-BFGS, {iterations}", "L-BFGS", ContinueLBFGS(iterations), iterations)


def shares(epochs: int, lr: float, budget: float, quick: bool) -> Iterator[Method]:
    """Yield retraining in fewer steps, where there is such a thing."""
    if "share" in Retrain().get_params():
        for share in SHARES[: 1 if quick else None]:
            yield Method(f"Retrain, {share:g}", SHARED, Retrain(share=share), share)


def by_hand(epochs: int, lr: float, budget: float, quick: bool) -> Iterator[Method]:
    """Yield the default told whether to renew the whole network, where it can be told."""
    if "renew" in StoCuReNU().get_params():
        for renew in (False, True):
            yield Method(f"ours, renew={renew}", STAGES, StoCuReNU(renew=renew))


def published(epochs: int, lr: float, budget: float, quick: bool) -> Iterator[Method]:
    """Yield the rivals from papers that the package has."""
    for name in ("SalUn", "L1Sparse", "AMUN", "RURK"):
        if hasattr(unlearners, name):
            yield Method(name, PUBLISHED, getattr(unlearners, name)())


# Each is called with the net's epochs and rate, the share of retraining's time allowed, and whether to be quick.
FAMILIES: dict[str, Callable[[int, float, float, bool], Iterator[Method]]] = {
    NO_OP.family: lambda *_: iter([NO_OP]),
    OURS: lambda *_: iter([default_method()]),
    "fine-tuning": fine_tuning,
    "L-BFGS": lbfgs,
    SHARED: shares,
    STAGES: by_hand,
    PUBLISHED: published,
}
RIVALS = (NO_OP.family, "fine-tuning", "L-BFGS", PUBLISHED)
