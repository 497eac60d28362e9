"""What the output layer is given for some rows, kept from one request to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import KeptFeatures, output_layer
from sk_unlearn.rows import TrainingSet
from sk_unlearn.unlearners.cubic import Policy
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["StoredFeatures"]

# Of so many rows features are taken at fit: as many as a request keeps for the next one.
_N_ROWS = Policy().kept_rows


@dataclass(frozen=True)
class StoredFeatures(NumpyStateMixin):
    """Features of stored rows that stay as long as neither parameters before the output layer nor buffers move.

    Attributes
    ----------
    numbers : int64 Tensor of shape (m,)
        Which rows: their numbers among those that are stored, which closing gaps does not change.

    values : Tensor of shape (m, n_features), on the CPU
    """

    numbers: Tensor
    values: Tensor

    @classmethod
    def taken(cls, risk: EmpiricalRisk, rng: np.random.Generator) -> StoredFeatures | None:
        """Take those of some stored rows; None where requests read all rows anyway, and where there is no such layer.

        Parameters
        ----------
        risk : EmpiricalRisk
            Over the stored rows, none of which has gone yet.

        rng : numpy.random.Generator
            Draws the rows.
        """
        if risk.n_rows <= _N_ROWS:
            return None
        layer, _ = output_layer(risk)
        if layer is None:
            return None
        rows = rng.permutation(risk.sample(_N_ROWS, rng))
        values = layer.risk(risk, rows=rows).features.cpu()
        return None if risk.draws else cls(torch.from_numpy(rows), values)

    @classmethod
    def of(cls, kept: KeptFeatures, rows: TrainingSet, gone: NDArray[np.int64]) -> StoredFeatures:
        """Keep what is known of rows in slots, for when rows in other slots have gone."""
        of_those = rows.live_mask[kept.rows] & ~np.isin(kept.rows, gone)
        slots = kept.rows[of_those]
        numbers = rows.numbers_of(slots) - np.searchsorted(np.sort(gone), slots)
        return cls(torch.from_numpy(numbers), kept.values[torch.from_numpy(of_those)])

    def of_retained(self, rows: TrainingSet, changed: NDArray[np.int64]) -> KeptFeatures:
        """Return what is known of the rows that a request leaves as they are, by slot."""
        slots = rows.slots_of(self.numbers.numpy())
        same = ~np.isin(slots, changed)
        return KeptFeatures(slots[same], self.values[torch.from_numpy(same)])
