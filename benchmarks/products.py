# Run: python -m benchmarks.products
"""Time of curvature products against a gradient on the same rows, and against other libraries.

Usage: ``python -m benchmarks.products [--repeats 15] [--device cpu]``. Float32, cross-entropy. "large": arithmetic
rules; "small": overhead rules. On CPU: processor time of one thread, which other work on the machine does not enter; on
CUDA: wall clock. Every round times each contender once, in turn; medians over the rounds. A row "in
chunks" evaluates the same rows in four chunks; "graphs rebuilt" keeps no graph from one product to the next.
``torch.autograd.functional.hvp`` and curvlinops (reported as absent where it is not installed) pay the forward and the
first backward pass again for every product.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from sk_unlearn.risks import EmpiricalRisk, Linearisation


def mlp(n_in: int, width: int, depth: int) -> nn.Module:
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Linear(width if k else n_in, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * channels * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


# Name, module, shape of a row, rows.
TASKS: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], int]] = [
    ("MLP 64-32-10, small", lambda: mlp(64, 32, 1), (64,), 64),
    ("MLP 64-32-32-10, small", lambda: mlp(64, 32, 2), (64,), 256),
    ("CNN 4-8, small", lambda: cnn(4), (1, 28, 28), 4),
    ("MLP 784-1024-1024-10, large", lambda: mlp(784, 1024, 2), (784,), 2048),
    ("CNN 32-64, large", lambda: cnn(32), (1, 28, 28), 256),
]


class _Contest:
    """One net and its rows, and every way to multiply its curvature with a vector."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], n: int, device: str) -> None:
        rng = np.random.default_rng(0)
        self.X, self.y = rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, 10, n)
        self.net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, device=device, verbose=0).initialize()
        self.module = self.net.module_.eval()
        self.risk = EmpiricalRisk(self.net, self.X, self.y, chunk_size=n)
        self.w = self.risk.parameters()
        self.v = torch.randn_like(self.w)
        self.v /= self.v.norm()
        self.device = device

    def ours(self, local: Linearisation, kind: str) -> Callable[[], Tensor]:
        return lambda: getattr(local, kind)(self.v)

    def contenders(self) -> dict[str, Callable[[], Tensor]]:
        n = len(self.X)
        whole = self.risk.linearise(self.w)
        in_chunks = EmpiricalRisk(self.net, self.X, self.y, chunk_size=n // 4)
        chunked = in_chunks.linearise(self.w)
        found: dict[str, Callable[[], Tensor]] = {
            "gradient": lambda: self.risk.gradient(self.w),
            "gradient in chunks": lambda: in_chunks.gradient(self.w),
            "Hessian": self.ours(whole, "hessian"),
            "Hessian in chunks": self.ours(chunked, "hessian"),
            "GGN": self.ours(whole, "ggn"),
            "Fisher": self.ours(whole, "fisher"),
            "hvp of torch.autograd.functional": self.functional_hvp(),
        }
        unkept = EmpiricalRisk(self.net, self.X, self.y, chunk_size=n // 4, memory_budget=0)
        rebuilt = unkept.linearise(self.w)
        return found | {"Hessian, graphs rebuilt": self.ours(rebuilt, "hessian"), **self.curvlinops()}

    def functional_hvp(self) -> Callable[[], Tensor]:
        x, y = torch.from_numpy(self.X).to(self.device), torch.from_numpy(self.y).to(self.device)
        names = [name for name, _ in self.module.named_parameters()]
        values = tuple(p.detach() for p in self.module.parameters())
        parts = self.v.split([p.numel() for p in values])
        vectors = tuple(part.view(p.shape) for part, p in zip(parts, values, strict=True))

        def loss(*parameters: Tensor) -> Tensor:
            output = torch.func.functional_call(self.module, dict(zip(names, parameters, strict=True)), (x,))
            return nn.functional.cross_entropy(output, y)

        return lambda: torch.cat([p.reshape(-1) for p in torch.autograd.functional.hvp(loss, values, vectors)[1]])

    def curvlinops(self) -> dict[str, Callable[[], Tensor]]:
        try:
            from curvlinops import GGNLinearOperator, HessianLinearOperator  # type: ignore[import-not-found]
        except ImportError:
            return {}
        data = [(torch.from_numpy(self.X).to(self.device), torch.from_numpy(self.y).to(self.device))]
        parameters = list(self.module.parameters())
        made = {}
        for name, kind in (("Hessian", HessianLinearOperator), ("GGN", GGNLinearOperator)):
            operator = kind(self.module, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)
            made[f"{name} of curvlinops"] = lambda operator=operator: operator @ self.v
        return made


def _seconds(function: Callable[[], Tensor], calls: int) -> float:
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    start = clock()
    for _ in range(calls):
        result = function()
    if result.is_cuda:
        torch.cuda.synchronize()
    return (clock() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'task':28s} {'what':34s} {'ms':>9s} {'/ gradient':>10s} {'this / ours':>11s} {'error':>8s}")
    for name, module, shape, n in TASKS:
        torch.manual_seed(0)
        contest = _Contest(module(), shape, n, options.device)
        contenders = contest.contenders()
        references = {kind: contenders[kind]() for kind in ("gradient", "Hessian", "GGN", "Fisher")}
        once = {what: _seconds(function, 2) for what, function in contenders.items()}
        calls = max(1, int(0.02 / once["gradient"]))
        times: dict[str, list[float]] = {what: [] for what in contenders}
        for _ in range(options.repeats):
            for what, function in contenders.items():
                times[what].append(_seconds(function, calls))
        median = {what: statistics.median(each) for what, each in times.items()}
        for what, seconds in median.items():
            kind = "Hessian" if what.startswith("hvp") else what.split()[0].strip(",")
            error = float((contenders[what]() - references[kind]).norm() / references[kind].norm())
            print(
                f"{name:28s} {what:34s} {1e3 * seconds:9.3f} {seconds / median['gradient']:10.2f} "
                f"{seconds / median[kind]:11.2f} {error:8.0e}"
            )
        if not any("curvlinops" in what for what in contenders):
            print(f"{name:28s} curvlinops is not installed")


if __name__ == "__main__":
    main()
