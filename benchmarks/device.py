# Run: python -m benchmarks.device [--quick]
"""What one GPU does with gradients, products and requests: ResNet-18 with 1 and with 11 million parameters.

Usage: ``python -m benchmarks.device [--device cuda] [--data ../shared/data] [--minutes 8] [--quick] [--out DIR]``.
Images of 32 x 32 pixels: CIFAR-10 from the folder ``cifar10`` of the data where it is there, otherwise a random pattern
for each class under noise. Prints markdown tables for RESULTS.md, row by row, so that a run that is ended tells what it
measured; what would begin after ``--minutes`` is left out.

*Products.* Over the same rows, medians of repeats after one that does not count: plain PyTorch's forward and backward
pass over the same chunks, the gradient of the risk, its linearisation (a gradient that can be differentiated), and
products with the Hessian and the Gauss-Newton matrix. Operations are those that PyTorch's counter sees in matrix
products and convolutions. The peak is what a large matrix product reaches in the same run and arithmetic: float32, and
on CUDA TF32 too.

*Requests.* Training with momentum and a cosine schedule, in PyTorch's own arithmetic (TF32 in convolutions only); then
the default unlearner forgets a class, and a random hundredth, and a net is trained from the start on the rows that
stay. Accuracies are on the erased rows and on test rows, of the net that forgot and of the one trained anew. Memory is
the peak that PyTorch allocated, over that of training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._options import write
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks import EmpiricalRisk


class Block(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, X: Tensor) -> Tensor:
        return torch.relu(self.body(X) + self.shortcut(X))


class ResNet18(nn.Module):
    """ResNet-18 for images of 32 x 32 pixels: no pooling before the blocks. Width 64 is the usual one."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for k, (n_in, n_out) in enumerate(pairwise(widths)):
            layers += [Block(n_in, n_out, 2 if k else 1), Block(n_out, n_out, 1)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, X: Tensor) -> Any:
        return self.head(self.body(X))


class Images(NamedTuple):
    """Rows to train on and rows to test on, and where they come from."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    source: str


class Sizes(NamedTuple):
    """How much is measured."""

    widths: tuple[int, ...]
    n_matrix: int
    n_products: int
    repeats: int
    n_rows: int
    n_test: int
    epochs: int


FULL = Sizes((20, 64), 8192, 2048, 5, 20_000, 2000, 10)
QUICK = Sizes((1,), 128, 4, 1, 24, 10, 1)


def images(data: Path | None, n: int, n_test: int) -> Images:
    """Return CIFAR-10 where it is there, else patterns under noise."""
    path = None if data is None else data / "cifar10" / "cifar10_20k.npz"
    if path is not None and path.exists():
        file = np.load(path)

        def rows(name: str, n: int) -> NDArray[np.float32]:
            return np.ascontiguousarray(file[name][:n].transpose(0, 3, 1, 2)).astype(np.float32) / 255 - 0.5

        y, y_test = (file[name].astype(np.int64) for name in ("y_train", "y_test"))
        return Images(rows("X_train", n), y[:n], rows("X_test", n_test), y_test[:n_test], "CIFAR-10")
    rng = np.random.default_rng(0)
    pattern = rng.normal(size=(10, 3, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, n + n_test)
    X = rng.normal(size=(len(y), 3, 32, 32), scale=4.0).astype(np.float32) + pattern[y]
    return Images(X[:n], y[:n], X[n:], y[n:], "patterns under noise")


class Clock:
    """Wall-clock seconds of work on a device, and the end of the time there is."""

    def __init__(self, device: str, minutes: float) -> None:
        self.device, self.ends = torch.device(device), time.perf_counter() + 60 * minutes

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return how long work takes, on the device too."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def median(self, work: Callable[[], Any], repeats: int) -> float:
        """Return the median of repeats, after one that warms up."""
        self.seconds(work)
        return statistics.median(self.seconds(work) for _ in range(repeats))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        return time.perf_counter() > self.ends


@contextmanager
def arithmetic(kind: str) -> Iterator[None]:
    """Have matrix products and convolutions on CUDA in full float32, or in TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if kind == "TF32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "TF32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def operations(work: Callable[[], Any]) -> int:
    """Return the floating-point operations of matrix products and convolutions in some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak(clock: Clock, n: int, repeats: int) -> float:
    """Return the operations a second that a product of two n x n matrices reaches."""
    A, B = (torch.randn(n, n, device=clock.device) for _ in range(2))
    return 2 * n**3 / clock.median(lambda: A @ B, repeats)


def plain_gradient(risk: EmpiricalRisk, X: NDArray[Any], y: NDArray[Any]) -> Callable[[], Any]:
    """Return PyTorch's own forward and backward pass over the chunks that the risk takes."""
    module = risk.net.module_.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]

    def work() -> None:
        for start in range(0, len(X), risk.chunk_size):
            x, target = (torch.from_numpy(a[start : start + risk.chunk_size]).to(risk.device) for a in (X, y))
            torch.autograd.grad(nn.functional.cross_entropy(module(x), target), parameters)

    return work


def products(width: int, rows: Images, sizes: Sizes, clock: Clock, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the time of a gradient and of products over the same rows."""
    torch.manual_seed(0)
    X, y = rows.X[: sizes.n_products], rows.y[: sizes.n_products]
    net = NeuralNetClassifier(
        ResNet18(width), criterion=nn.CrossEntropyLoss, device=str(clock.device), train_split=None, verbose=0
    ).initialize()
    risk = EmpiricalRisk(net, X, y)
    w = risk.parameters()
    v = torch.randn_like(w)
    at = risk.linearise(w)
    contenders: dict[str, Callable[[], Any]] = {
        "PyTorch's backward pass": plain_gradient(risk, X, y),
        "gradient": lambda: risk.gradient(w),
        "linearisation": lambda: risk.linearise(w),
        "Hessian product": lambda: at.hessian(v),
        "Gauss-Newton product": lambda: at.ggn(v),
    }
    best, plain = peak(clock, sizes.n_matrix, sizes.repeats), None
    for name, work in contenders.items():
        seconds = clock.median(work, sizes.repeats)
        plain = plain or seconds
        n_operations = operations(work)
        rate = n_operations / seconds
        yield {
            "parameters": risk.n_parameters, "arithmetic": kind, "what": name, "rows": len(X),
            "chunk": risk.chunk_size, "operations": n_operations, "ms": 1e3 * seconds, "times": seconds / plain,
            "tflops": rate / 1e12, "peak_tflops": best / 1e12, "share": rate / best,
        }  # fmt: skip


def estimator(width: int, rows: int, epochs: int, device: str) -> UnlearnableClassifier:
    """Return a ResNet-18 that is trained with momentum and a cosine schedule."""
    batch = min(256, max(8, rows // 8))
    n_steps = -(-rows // batch) * epochs
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_steps)
    net = NeuralNetClassifier(
        ResNet18, module__width=width, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD,
        optimizer__momentum=0.9, optimizer__weight_decay=5e-4, lr=0.1, batch_size=batch, max_epochs=epochs,
        iterator_train__shuffle=True, train_split=None, verbose=0, callbacks=[("schedule", schedule)],
    )  # fmt: skip
    return UnlearnableClassifier(net, random_state=0, device=device)


def memory(clock: Clock) -> float:
    """Return the bytes that PyTorch allocated at the most since the last call; not a number but on CUDA."""
    if clock.device.type != "cuda":
        return float("nan")
    most = torch.cuda.max_memory_allocated(clock.device)
    torch.cuda.reset_peak_memory_stats(clock.device)
    return float(most)


def requests(width: int, rows: Images, sizes: Sizes, clock: Clock) -> Iterator[dict[str, Any]]:
    """Yield what it takes to forget a class and a hundredth of the rows, beside training anew without them."""
    X, y, X_test, y_test, _ = rows
    drawn = np.random.default_rng(1).permutation(len(X))[: max(1, len(X) // 100)]
    for name, erased in (("class 3", np.flatnonzero(y == 3)), ("1 % at random", np.sort(drawn))):
        est = estimator(width, len(X), sizes.epochs, str(clock.device))
        memory(clock)
        fit = clock.seconds(lambda est=est: est.fit(X, y))
        for_training = memory(clock)
        accuracy_before = est.score(X_test, y_test)
        memory(clock)
        forget = clock.seconds(lambda est=est, erased=erased: est.forget(X[erased], y[erased]))
        for_request = memory(clock)
        stay = np.setdiff1d(np.arange(len(X)), erased)
        fresh = clone(est)
        retrain = clock.seconds(lambda fresh=fresh, stay=stay: fresh.fit(X[stay], y[stay]))
        yield {
            "parameters": sum(p.numel() for p in est.net_.module_.parameters()),
            "request": name, "rows": len(erased), "fit": fit, "forget": forget, "retrain": retrain,
            "ratio": forget / retrain, "status": str(est.unlearning_report_.status),
            "memory": for_request / for_training, "test_before": accuracy_before,
            "erased_forgot": est.score(X[erased], y[erased]), "erased_retrained": fresh.score(X[erased], y[erased]),
            "test_forgot": est.score(X_test, y_test), "test_retrained": fresh.score(X_test, y_test),
        }  # fmt: skip
        if clock.is_over:
            return


def shown(records: Iterator[dict[str, Any]], columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Pass records on, and print each as a row of a markdown table; the columns are formats by name."""
    print("| " + " | ".join(columns) + " |", "|" + "---|" * len(columns), sep="\n")
    for record in records:
        print("| " + " | ".join(format_.format(**record) for format_ in columns.values()) + " |", flush=True)
        yield record
    print()


PRODUCTS = {
    "parameters": "{parameters:,}", "arithmetic": "{arithmetic}", "what": "{what}", "rows": "{rows:,}",
    "chunk": "{chunk:,}", "ms": "{ms:.1f}", "backward passes": "{times:.2f}", "TFLOP/s": "{tflops:.3g}",
    "share of peak": "{share:.0%}",
}  # fmt: skip
REQUESTS = {
    "parameters": "{parameters:,}", "request": "{request}", "rows": "{rows:,}", "fit, s": "{fit:.1f}",
    "forget, s": "{forget:.2f}", "retrain, s": "{retrain:.1f}", "forget / retrain": "{ratio:.3f}",
    "memory / training's": "{memory:.2f}", "status": "{status}",
    "erased, forgot": "{erased_forgot:.3f}", "erased, retrained": "{erased_retrained:.3f}",
    "test, before": "{test_before:.3f}", "test, forgot": "{test_forgot:.3f}", "test, retrained": "{test_retrained:.3f}",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing is begun after so many")
    parser.add_argument("--quick", action="store_true", help="a tiny net and few rows, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for JSON")
    options = parser.parse_args(argv)
    sizes, clock = QUICK if options.quick else FULL, Clock(options.device, options.minutes)
    rows = images(None if options.quick else options.data, sizes.n_rows, sizes.n_test)
    on_card = clock.device.type == "cuda"
    card = torch.cuda.get_device_name(clock.device) if on_card else "no GPU"
    print(f"{card}; torch {torch.__version__}; {len(rows.X):,} images ({rows.source})\n")

    def all_products() -> Iterator[dict[str, Any]]:
        for width in sizes.widths:
            for kind in ("float32", "TF32")[: 1 + on_card]:
                with arithmetic(kind):
                    yield from products(width, rows, sizes, clock, kind)

    def all_requests() -> Iterator[dict[str, Any]]:
        for width in sizes.widths:
            if not clock.is_over:
                yield from requests(width, rows, sizes, clock)

    found = {"products": list(shown(all_products(), PRODUCTS))}
    peaks = {(record["arithmetic"], record["peak_tflops"]) for record in found["products"]}
    print("Peak, by a matrix product: " + ", ".join(f"{each:.3g} TFLOP/s in {kind}" for kind, each in sorted(peaks)))
    print()
    found["requests"] = list(shown(all_requests(), REQUESTS))
    write(options, "device", {"card": card, **found})
    return found


if __name__ == "__main__":
    main()
