# Part of: benchmarks.every_layer, benchmarks.readme (python -m benchmarks.every_layer)
"""Networks that keep what they know of a row elsewhere than in a plain output layer, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.utils.data import default_collate

from benchmarks._tasks import Fresh, mlp


class Recommender(nn.Module):
    """Embeddings of a user and of an item, then a small MLP: whether the user likes the item.

    Parameters
    ----------
    n_users, n_items : int
    deviation : float
        Of the initial embeddings. Small, as is usual, a user never seen is an average one. With PyTorch's 1 a user
        never seen is anybody, and retrained models differ as much about such a user as about any.
    width : int
        Length of an embedding.
    """

    def __init__(self, n_users: int, n_items: int, deviation: float = 0.1, width: int = 8) -> None:
        super().__init__()
        self.users = nn.Embedding(n_users, width)
        self.items = nn.Embedding(n_items, width)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=deviation)
        self.body = mlp(2 * width, 32, 2)

    def forward(self, X: Tensor) -> Any:
        return self.body(torch.cat([self.users(X[:, 0]), self.items(X[:, 1])], 1))


class LowRank(nn.Module):
    """A linear map that is frozen, plus a trained one of low rank, which starts at zero (LoRA)."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, X: Tensor) -> Any:
        return self.frozen(X) + self.up(self.down(X))


class Scaled(nn.Module):
    """Multiply by a factor, fixed or trained."""

    def __init__(self, factor: float, trained: bool = False) -> None:
        super().__init__()
        value = torch.tensor(factor)
        if trained:
            self.factor = nn.Parameter(value)
        else:
            self.register_buffer("factor", value)

    factor: Tensor

    def forward(self, X: Tensor) -> Any:
        return self.factor * X


class CosineHead(nn.Module):
    """Logits that are cosines between features and a direction for each class, times ten."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in))

    def forward(self, X: Tensor) -> Any:
        unit = nn.functional.normalize
        return 10 * unit(X, dim=1) @ unit(self.weight, dim=1).T


@lru_cache
def _pretrained(rows: bytes, labels: bytes) -> dict[str, Tensor]:
    """Train an MLP 64-64-32-10 on other rows, to be adapted; the same whatever seed is in force."""
    X = torch.from_numpy(np.frombuffer(rows, np.float32).reshape(-1, 64).copy())
    y = torch.from_numpy(np.frombuffer(labels, np.int64).copy())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = mlp(64, 64, 32, 10)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        optimiser.step()
    return net.state_dict()


def adapted(where: str, rows: bytes, labels: bytes) -> nn.Sequential:
    """Build a pretrained MLP whose hidden layers, or head, are adapted by maps of low rank.

    Parameters
    ----------
    where : {"hidden", "head"}
        What is adapted. With "hidden" the head is trained as well, with "head" the layers below stay as they are.
    rows, labels : bytes
        Of the rows that it was pretrained on: float32 of 64 columns, int64.
    """
    net = mlp(64, 64, 32, 10)
    net.load_state_dict(_pretrained(rows, labels))
    first, second, head = (layer for layer in net if isinstance(layer, nn.Linear))
    if where == "hidden":
        return nn.Sequential(LowRank(first), nn.ReLU(), LowRank(second), nn.ReLU(), nn.Linear(32, 10))
    body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU()).requires_grad_(False)
    return nn.Sequential(body, LowRank(head))


def followed_by(last: Callable[[], nn.Module]) -> nn.Sequential:
    """Build an MLP 64-64-32-10 with something after its logits."""
    return nn.Sequential(*mlp(64, 64, 32, 10), last())


def cosine_net() -> nn.Sequential:
    return nn.Sequential(*mlp(64, 64, 32), nn.ReLU(), CosineHead(32, 10))


def closed_doors(rows: bytes, labels: bytes) -> dict[str, Callable[[], nn.Module]]:
    """Return nets of which no plain linear layer gives the logits."""
    return {
        "LoRA hidden": partial(adapted, "hidden", rows, labels),
        "LoRA head": partial(adapted, "head", rows, labels),
        "half logits": partial(followed_by, partial(Scaled, 0.5)),
        "temperature": partial(followed_by, partial(Scaled, 1.0, trained=True)),
        "cosine head": cosine_net,
        "LayerNorm": partial(followed_by, partial(nn.LayerNorm, 10)),
    }


class Block(nn.Module):
    """Two convolutions with BatchNorm, and what went in added to what comes out."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()),
            *(nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)),
        )
        self.short = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, X: Tensor) -> Any:
        return torch.relu(self.body(X) + self.short(X))


def resnet() -> nn.Sequential:
    """Build a small residual network for 3 x 32 x 32: 20,034 parameters, the last layer 32 -> 10."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def flipped_and_shifted(rows: list[Any]) -> Any:
    """Collate a batch of images; mirror each at random and move all by up to four pixels, as training does."""
    images, labels = default_collate(rows)
    mirrored = torch.rand(len(images)) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    up, left = torch.randint(-4, 5, (2,)).tolist()
    return images.roll((up, left), (2, 3)), labels


# What each optimiser is called with; SGD with the rate that takes the recommender as far as Adam does.
OPTIMISERS: dict[str, dict[str, Any]] = {
    "Adam": {"optimizer": torch.optim.Adam, "lr": 3e-3},
    "Adam, decay": {"optimizer": torch.optim.Adam, "lr": 3e-3, "optimizer__weight_decay": 1e-5},
    "AdamW": {"optimizer": torch.optim.AdamW, "lr": 3e-3, "optimizer__weight_decay": 1e-2},
    "SGD": {"optimizer": torch.optim.SGD, "lr": 0.3, "optimizer__momentum": 0.9},
}


def classifier(
    build: Callable[[], nn.Module], epochs: int, *, cosine: bool = False, **settings: Any
) -> Callable[[], NeuralNet]:
    """Return a function that makes skorch nets around fresh modules.

    Parameters
    ----------
    build : callable
        ``build()`` returns a module that gives logits.
    epochs : int
    cosine : bool
        Take the rate to zero along a cosine, epoch by epoch, rather than leave it where it is.
    **settings
        Of the net; by default Adam, a rate of 1e-3, batches of 128.
    """
    schedule = LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs)
    settings = {
        "criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.Adam, "lr": 1e-3, "max_epochs": epochs,
        "batch_size": 128, "iterator_train__shuffle": True, "train_split": None, "verbose": 0,
        "callbacks": [("schedule", schedule)] if cosine else None,
    } | settings  # fmt: skip
    return lambda: NeuralNetClassifier(Fresh, module__build=build, **settings)


def ratings(n_users: int, n_items: int, per_user: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw who likes what: a user's taste for an item, how much the user likes things, the item's quality, and chance.

    Returns
    -------
    X : int64 ndarray of shape (n_users * per_user, 2)
        User and item; no pair stands there twice. A user's rows stand together, in random order.
    y : int64 ndarray of shape (n_users * per_user,)
        1 for liked.
    """
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    logits = taste @ kind.T + 1.5 * rng.normal(size=(n_users, 1)) + rng.normal(size=n_items)
    items = np.stack([rng.permutation(n_items)[:per_user] for _ in range(n_users)])
    users = np.repeat(np.arange(n_users), per_user)
    X = np.stack([users, items.ravel()], 1)
    y = rng.random(len(X)) < 1 / (1 + np.exp(-logits[X[:, 0], X[:, 1]]))
    return X, y.astype(np.int64)
