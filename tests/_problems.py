"""What tests of several files build alike: nets, estimators, problems for an algorithm, and what to compare with."""

from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_iris, make_classification
from sklearn.model_selection import KFold
from sklearn.preprocessing import TargetEncoder
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import UnlearningProblem

# Folds of a TargetEncoder in the order of the rows: scikit-learn 1.9 wants them given, older releases take no folds.
FOLDS_IN_ORDER = (
    {"cv": KFold(5)} if "cross-validation generator" in (TargetEncoder.__doc__ or "") else {"shuffle": False}
)


class Mlp(nn.Module):
    """One hidden layer with tanh; an estimator fills in how many columns and outputs there are."""

    def __init__(self, n_features_in, n_outputs, n_hidden=5, dtype=None):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features_in, n_hidden, dtype=dtype), nn.Tanh(), nn.Linear(n_hidden, n_outputs, dtype=dtype)
        )

    def forward(self, X):
        return self.body(X)


def mlp(d, n_outputs, n_hidden):
    """The same layers, ready-made."""
    return nn.Sequential(nn.Linear(d, n_hidden), nn.Tanh(), nn.Linear(n_hidden, n_outputs))


class LinearLayer(nn.Linear):
    """`nn.Linear` with the names of arguments that an estimator fills in."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)


def affine(d, n_outputs=1):
    """One layer in float64: with a quadratic loss its optimum is known, see `ridge_solution`."""
    return nn.Linear(d, n_outputs, dtype=torch.float64)


def skorch_net(module, kind=NeuralNetClassifier, **settings):
    """A net that says nothing and trains on all rows, a classifier by cross-entropy of logits."""
    defaults = {"train_split": None, "verbose": 0}
    if issubclass(kind, NeuralNetClassifier):
        defaults["criterion"] = nn.CrossEntropyLoss
    return kind(module, **(defaults | settings))


def classifier(unlearner=None, module=Mlp, *, random_state=0, keep_training_set=True, **net_settings):
    """An unlearnable classifier around `skorch_net(module)`."""
    return UnlearnableClassifier(
        skorch_net(module, **net_settings), unlearner, random_state=random_state, keep_training_set=keep_training_set
    )


def regressor(unlearner=None, module=Mlp, *, random_state=0, keep_training_set=True, **net_settings):
    """An unlearnable regressor around `skorch_net(module)`."""
    net = skorch_net(module, NeuralNetRegressor, **net_settings)
    return UnlearnableRegressor(net, unlearner, random_state=random_state, keep_training_set=keep_training_set)


def tiny_classifier(unlearner=None, *, random_state=None, n_outputs=2, **settings):
    """One of three columns that is quick to train, and is asked for reproducible training where that matters."""
    return classifier(
        unlearner, random_state=random_state, module__n_features_in=3, module__n_outputs=n_outputs, module__n_hidden=6,
        lr=0.3, max_epochs=8, batch_size=16, **settings,
    )  # fmt: skip


def centred_iris():
    """Iris rows, float32, every column with mean zero, and their classes."""
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(0)).astype(np.float32), y


def iris_classifier(unlearner=None, **net_settings):
    """A softmax regression that learns iris well in 60 epochs."""
    defaults = {"max_epochs": 60, "batch_size": 32, "lr": 0.05, "optimizer": torch.optim.Adam}
    shape = {"module__in_features": 4, "module__out_features": 3}
    return classifier(unlearner, nn.Linear, **(shape | defaults | net_settings))


def parameters(est):
    """All parameters of a fitted estimator as one numpy vector."""
    return flat_parameters(est.net_).numpy()


def ridge_solution(X, y, decay, weight=None):
    """The slopes and the intercept, all penalised, at which the mean squared loss + decay / 2 |w|^2 is least."""
    weight = np.ones(len(X)) if weight is None else weight
    A = np.column_stack([X, np.ones(len(X))])
    penalty = 0.5 * decay * weight.sum() * np.eye(A.shape[1])
    return np.linalg.solve((A.T * weight) @ A + penalty, (A.T * weight) @ y)


def posed(net, whole, retained, erased, seed=0):
    """The problem that an unlearner is given, from a net and its risks over all, retained and erased rows."""
    w = flat_parameters(net)
    return UnlearningProblem(
        parameters=w, retained=retained, erased=erased, gradient=retained.gradient(w), residual=whole.gradient(w),
        rng=np.random.default_rng(seed), net=net, retrain=lambda **options: net,
    )  # fmt: skip


def problem_for(n=80, d=5, n_classes=3, seed=0, erased=8, hidden=6, module=None, **net_settings):
    """The problem of forgetting the first rows of a small net in float64 (`module`, if one is given)."""
    X, y = make_classification(n, d, n_informative=d, n_redundant=0, n_classes=n_classes, random_state=seed)
    torch.manual_seed(seed)
    module = module or mlp(d, n_classes, hidden)
    defaults = {"optimizer": torch.optim.Adam, "optimizer__weight_decay": 1e-2, "lr": 0.02, "max_epochs": 60}
    net = skorch_net(module.double(), batch_size=-1, **(defaults | net_settings)).fit(X, y)
    whole, retained = EmpiricalRisk(net, X, y), EmpiricalRisk(net, X[erased:], y[erased:])
    return posed(net, whole, retained, EmpiricalRisk(net, X[:erased], y[:erased]) if erased else whole, seed)


def untrained_problem(X, y, n_erased=10, **net_settings):
    """What mini-batches and the watch over losses need of the problem of forgetting the first rows."""
    torch.manual_seed(0)
    net = skorch_net(nn.Linear(X.shape[1], 3).double(), batch_size=8, **net_settings).initialize()
    retained = EmpiricalRisk(net, X, y, mask=np.arange(len(X)) >= n_erased)
    return SimpleNamespace(
        net=net, retained=retained, erased=EmpiricalRisk(net, X[:n_erased], y[:n_erased]),
        parameters=retained.parameters(), rng=np.random.default_rng(1), report_step=lambda record: None,
    )  # fmt: skip
