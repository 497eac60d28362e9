import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references import fit_many


class Digits:
    """Digits without threes: the net before, nets retrained, and one whose output layer alone was changed."""

    label = 3

    def __init__(self):
        X, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(X))
        X, y = X[order], y[order]
        (self.X, self.X_test), (self.y, self.y_test) = (np.split(each, [900]) for each in (X, y))
        self.gone = self.y == self.label
        self.original = UnlearnableClassifier(random_state=0).fit(self.X, self.y)
        self.retrained = fit_many(UnlearnableClassifier(), self.X[~self.gone], self.y[~self.gone], seeds=[1, 2, 3, 4])
        self.head_only = copy.deepcopy(self.original)
        head = self.head_only.net_.module_.body[-1]
        with torch.no_grad():  # no row is taken for a three again, and nothing else has changed
            head.bias[self.label] = -100.0
        self.default = copy.deepcopy(self.original).forget(self.X[self.gone])


@pytest.fixture(scope="session")
def digits():
    return Digits()
