"""What an unlearner watches, or does, while the net trains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback

__all__ = ["TrainingRecorder"]


class TrainingRecorder(Callback):
    """Base class of what an unlearner watches, or does, while the net trains.

    It is a skorch callback: the estimator installs it for ``fit`` (and wherever a net is trained afresh), behind all
    other callbacks, and takes it away afterwards. A subclass implements some of skorch's hooks, such as
    ``on_grad_computed`` or ``on_batch_end``, and :meth:`recording`.

    Attributes
    ----------
    rows : ndarray of int64 or None
        Numbers, among the rows given to training, of those in the present training batch; None while validating.

    trained : ndarray of int64 or None
        Once training has ended, the numbers of the rows that have entered a gradient, ascending. A recording with one
        entry a row must hold these, in this order.
    """

    rows: NDArray[np.int64] | None = None
    trained: NDArray[np.int64] | None = None

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        """Get ready; called once, before training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Initialised, not trained.

        n_rows : int
            Number of rows given to training. The net may hold some of them out.

        mass : float
            Sum of their weights.

        rng : numpy.random.Generator
            The source of all randomness.
        """

    def recording(self, net: NeuralNet) -> Any:
        """Return what is to be kept; called once, after training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Trained.

        Returns
        -------
        recording : object
            Picklable; handed to the unlearner as ``problem.recording``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement recording(net).")
