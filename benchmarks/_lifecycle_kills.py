# Part of: python -m benchmarks.lifecycle
"""Processes that are killed while the command line or the service changes a model: what is left on the disk.

Children are forked, so that each needs no seconds to start. A child tells its parent what was done by writing to a
pipe, after it was done.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.commands import main
from sk_unlearn.receipts import to_json_lines, verify
from sk_unlearn.unlearners import FineTune

LONGEST = 1.0  # seconds until a kill, at most


def _save_a_model(path: Path, n_rows: int) -> np.ndarray:
    """Save a small model whose rows are persons 0 to n_rows - 1, and return the rows."""
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(n_rows, 10)).astype(np.float32)
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=10, module__out_features=2, criterion=nn.CrossEntropyLoss, max_epochs=1,
        batch_size=512, verbose=0, train_split=None,
    )  # fmt: skip
    est = UnlearnableClassifier(net, FineTune(1), random_state=0)
    sk_unlearn.save(est.fit(X, (X[:, 0] > 0).astype(int), sample_id=list(range(n_rows))), path)
    return X


def _forked(work: Callable[[int], Any]) -> tuple[int, int]:
    """Start a process that does some work with the writing end of a pipe; return it and the reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        work(writing)
    finally:  # whatever happens, the child must not go on as if it were its parent
        os._exit(1)


def _killer(child: int, seconds: float) -> int:
    """Start a process that kills another one, at a moment that depends on nothing that this one does."""
    killer = os.fork()
    if killer:
        return killer
    try:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    finally:
        os._exit(0)


def _all_of(reading: int) -> bytes:
    with os.fdopen(reading, "rb") as file:
        return file.read()


def _gone(model: Any, n_rows: int) -> set[int]:
    return set(range(n_rows)) - set(model.training_set_.sample_id.tolist())


def _look(path: Path, log: Path, counts: Counter[str]) -> Any:
    """Load what is there; catch its log up and verify it. None where something is torn."""
    try:
        model = sk_unlearn.load(path)
        to_json_lines(model.receipts_, log)
        verify(log, head=model.receipts_.head)
    except Exception as error:
        counts[f"torn: {type(error).__name__}"] += 1
        return None
    return model


# ------------------------------------------------------------------------------------------------------ command line


def kills_of_the_command_line(n_kills: int, seed: int = 0, n_rows: int = 4000) -> Counter[str]:
    """Kill processes that call ``request`` and ``settle`` in turn, one person after the other.

    Returns
    -------
    counts : Counter
        How often the model was as after the last command that had ended ("old") or as after the next one ("new"); and
        "torn" or "lost" for anything else: it does not load, the receipts do not verify, a request that was accepted is
        neither pending nor carried out, or an erased person is back. "log repaired" is how often the log lagged.
    """
    moments, counts, state = random.Random(seed), Counter[str](old=0, new=0), 0
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "model.skops", Path(folder) / "receipts.jsonl"
        _save_a_model(path, n_rows)
        for _ in range(n_kills):
            child, reading = _forked(lambda writing, at=state: _change_for_ever(Path(folder), at, writing))
            killer = _killer(child, moments.uniform(0, LONGEST))
            acknowledged = state + len(_all_of(reading))
            for each in (child, killer):
                os.waitpid(each, 0)
            logged = log.read_bytes().count(b"\n") - 1 if log.exists() else 0
            model = _look(path, log, counts)
            if model is None:
                break
            counts["log repaired"] += logged != len(model.receipts_)
            # Person after person is requested (one step) and settled (the next): the state is the number of steps.
            gone, pending = _gone(model, n_rows), model.pending_
            state = 2 * len(gone) + len(pending)
            whole = gone == set(range(len(gone))) and all(each.n_rows == 1 for each in pending)
            kind = {0: "old", 1: "new"}.get(state - acknowledged, "lost") if whole else "lost"
            counts[kind] += 1
            counts["commands"] = state
    return counts


def _change_for_ever(folder: Path, state: int, writing: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    model, log, ids = (str(folder / name) for name in ("model.skops", "receipts.jsonl", "ids.csv"))
    while True:
        if state % 2 == 0:
            Path(ids).write_text(f"{state // 2}\n")
            status = main(["request", model, "--ids", ids, "--log", log])
        else:
            status = main(["settle", model, "--log", log])
        if status != 0:
            return
        state += 1
        os.write(writing, b".")


# ----------------------------------------------------------------------------------------------------------- service


def _example() -> Any:
    path = Path(__file__).parents[1] / "examples" / "deletion_service.py"
    spec = importlib.util.spec_from_file_location("deletion_service", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kills_of_the_service(n_kills: int, seed: int = 0, n_rows: int = 12_000) -> Counter[str]:
    """Kill the service while it starts, takes requests, settles and predicts.

    Returns
    -------
    counts : Counter
        "whole": the model loads, its receipts verify, everyone who was accepted is in the queue or erased, whom the
        queue says to be erased is, and nobody who was erased is back; "torn" and "lost" otherwise. At the end what
        waits is carried out: "accepted" is how many requests were, "carried out" how many have a receipt.
    """
    example = _example()
    moments, counts = random.Random(seed), Counter[str](whole=0)
    accepted: dict[str, int] = {}
    gone: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "model.skops", Path(folder) / "receipts.jsonl"
        X = _save_a_model(path, n_rows)
        persons = iter(range(n_rows - 1))
        for _ in range(n_kills):
            child, reading = _forked(lambda writing: _serve(example, Path(folder), writing))
            killer = _killer(child, moments.uniform(0, LONGEST))
            with os.fdopen(reading) as said:
                port = said.readline().rpartition(" ")[2].strip()
                if port:
                    _ask(int(port), persons, X, accepted, counts)
            for each in (child, killer):
                os.waitpid(each, 0)
            model = _look(path, log, counts)
            if model is None:
                return counts
            before, gone = gone, _gone(model, n_rows)
            states = _states(Path(folder) / "queue.sqlite")
            kept = all(states.get(one) == "waiting" or person in gone for one, person in accepted.items())
            counts["whole" if kept and before <= gone else "lost"] += 1
        service = example.Service(path, folder)
        service.round()
        model, states = _look(path, log, counts), _states(Path(folder) / "queue.sqlite")
        counts["accepted"] = len(accepted)
        counts["carried out"] = sum(
            states[one] == "done" and person in _gone(model, n_rows) for one, person in accepted.items()
        )
        service.close()
    return counts


def _serve(example: Any, folder: Path, writing: int) -> None:
    os.dup2(writing, 1)
    example.main([str(folder / "model.skops"), "--folder", str(folder), "--port", "0", "--every", "0.02"])


def _ask(port: int, persons: Any, X: np.ndarray, accepted: dict[str, int], counts: Counter[str]) -> None:
    """Ask for a prediction and for the deletion of the next person, until nobody answers."""
    with contextlib.suppress(OSError, HTTPException, ValueError, StopIteration):
        while True:
            body = json.dumps({"rows": X[:1].tolist()})
            counts["predictions" if _post(port, "/predict", body)[0] == 200 else "predictions failed"] += 1
            person = next(persons)
            status, told = _post(port, "/deletions", json.dumps({"id": person}))
            if status == 202:
                accepted[told["id"]] = person


def _post(port: int, path: str, body: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _states(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with contextlib.closing(sqlite3.connect(path)) as db:
        try:
            return dict(db.execute("SELECT id, state FROM requests"))
        except sqlite3.OperationalError:  # killed before there was a table
            return {}
