# Part of: benchmarks.every_layer, benchmarks.readme (python -m benchmarks.every_layer)
"""Fitted and retrained models of `benchmarks.every_layer`, kept on disk, since they take the most time."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

import sk_unlearn
from benchmarks._every_layer_tasks import LayerTask
from benchmarks._measure import Clock, Yardstick, forgetful
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import Retrain


@lru_cache
def code() -> str:
    """Return a hash of what decides how a model is fitted and what it keeps: the package and the tasks."""
    package, here = Path(sk_unlearn.__file__).parent, Path(__file__).parent
    files = [*sorted(package.rglob("*.py")), *sorted(here.glob("_*tasks.py")), *sorted(here.glob("_*nets.py"))]
    return str(joblib.hash([path.read_text() for path in files]))


def described(value: Any) -> Any:
    """Return settings in a form whose hash is the same in every process."""
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    if isinstance(value, partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__"):
        return [type(value).__qualname__, described(vars(value))]
    return value


class Models:
    """The fitted models of a task, and the models retrained for its requests.

    A retrained model is looked up by the rows, its seed and the parameters of the model fitted from seed 0, so that
    one that was trained by other code, or from other weights, is not taken. Delete the folder when `Retrain` itself
    has changed.

    Parameters
    ----------
    task : LayerTask
    folder : Path or None
        Where models are kept; None for nowhere.
    retime : float
        Where retrained models came from the disk, one is trained again to have its seconds from this process, unless
        that took more seconds than these.
    """

    def __init__(self, task: LayerTask, folder: Path | None, retime: float = 20.0) -> None:
        self.task, self.folder, self.retime = task, folder, retime
        self._fitted: dict[int, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def fitted(self, seed: int) -> Any:
        """Return the model fitted from a seed, in memory from then on."""
        if seed not in self._fitted:
            net = self.task.net()
            settings = described(net.get_params() if net is not None else {})
            key = (self.task.key, settings, self.task.X, self.task.y, self.task.ids, seed, code())
            self._fitted[seed] = self._kept(f"fit-{self.task.key}", key, lambda: self.task.fit(seed))[0]
        return self._fitted[seed]

    def retrained(self, request: str, seeds: int) -> tuple[dict[int, dict[str, Any]], float, str]:
        """Return what is known of the models retrained for a request, by seed; the seconds of one; whence these are.

        Of each model: ``outputs`` on the rows of the `Yardstick`, ``state``, the module's tensors, and ``cpu``.
        """
        erased = self.task.requests[request]
        start = flat_parameters(self.fitted(0).net_).numpy()
        found, fresh = {}, []
        for seed in range(seeds):
            key = (self.task.key, self.task.X, self.task.y, erased, start, seed)
            found[seed], came_from_disk = self._kept(
                f"retrained-{self.task.key}-{request}", key, partial(self._retrain, erased, seed)
            )
            if not came_from_disk:
                fresh.append(found[seed]["cpu"])
        timed = "here"
        if not fresh and found[0]["cpu"] <= self.retime:
            fresh = [self._retrain(erased, 0)["cpu"]]
        elif not fresh:
            fresh, timed = [each["cpu"] for each in found.values()], "before"
        return found, float(np.median(fresh)), timed

    def _retrain(self, erased: NDArray[np.int64], seed: int) -> dict[str, Any]:
        model, cost = forgetful(self.fitted(seed), self.task, erased, Retrain())
        state = {name: value.cpu().numpy() for name, value in model.net_.module_.state_dict().items()}
        return {"outputs": Yardstick(self.task, erased, {}).outputs(model), "state": state, "cpu": cost["cpu"]}

    def model(self, state: Mapping[str, NDArray[Any]], seed: int) -> Any:
        """Return a copy of a fitted model with the tensors of a retrained one."""
        model = copy.deepcopy(self.fitted(seed))
        module = model.net_.module_
        tensors = {name: value.new_tensor(state[name]) for name, value in module.state_dict().items()}
        module.load_state_dict(tensors)
        return model

    def _kept(self, name: str, key: Any, compute: Callable[[], Any]) -> tuple[Any, bool]:
        """Return what the disk has under a key, or compute and keep it; and whether it was there."""
        if self.folder is None:
            return compute(), False
        plain = "".join(c if c.isalnum() else "-" for c in name)
        path = self.folder / f"{plain}-{joblib.hash(key)}.joblib"
        if path.exists():
            return joblib.load(path), True
        with Clock() as clock:
            value = compute()
        if name.startswith("retrained") or clock.cpu > 3:  # else it is as fast to fit again
            aside = path.with_suffix(f".{os.getpid()}")
            joblib.dump(value, aside)
            aside.replace(path)  # another process never reads half a file
        return value, False
