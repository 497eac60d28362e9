"""The epochs of a training as a bar, where the training is a part of a request that is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from sk_unlearn.utils._progress import Bar, detail

__all__ = ["epochs_shown"]


@contextmanager
def epochs_shown(net: NeuralNet, n_epochs: int) -> Iterator[None]:
    """Have a bar that counts epochs among the callbacks, if there is one to be seen and the net prints none itself."""
    with detail(n_epochs, "training", unit="epoch") as bar:
        if not bar.is_shown or net.verbose:
            yield
            return
        entry = ("progress", _Counter(bar).initialize())
        net.callbacks_.append(entry)
        try:
            yield
        finally:
            net.callbacks_[:] = [each for each in net.callbacks_ if each is not entry]


class _Counter(Callback):
    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        loss = net.history[-1].get("train_loss")
        if loss is not None:
            self.bar.tell(f"loss {loss:.3g}")
        self.bar.update()
