"""The service to copy: requests are carried out, answered for, survive kills, and leave nothing of who asked."""

import importlib.util
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import read_json_lines, verify
from sk_unlearn.unlearners import FineTune

ROOT = Path(__file__).parents[2]
N = 60
rng = np.random.default_rng(5)
TABLE = pd.DataFrame({"income": rng.normal(size=N), "town": [f"Town-{i % 6:04d}" for i in range(N)]})
LABELS = (TABLE.income > 0).astype(int).to_numpy()
IDS = [f"customer-{i:04d}" for i in range(N)]


def load_example():
    spec = importlib.util.spec_from_file_location("deletion_service", ROOT / "examples" / "deletion_service.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


deletion_service = load_example()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.skops"
    steps = make_column_transformer((StandardScaler(), ["income"]), (OneHotEncoder(sparse_output=False), ["town"]))
    model = make_pipeline(steps, UnlearnableClassifier(unlearner=FineTune(1), random_state=0))
    sk_unlearn.save(model.fit(TABLE, LABELS, sample_id=IDS), path)
    return path.read_bytes()


@pytest.fixture
def folder(saved, tmp_path):
    (tmp_path / "model.skops").write_bytes(saved)
    return tmp_path


@pytest.fixture
def started(folder):
    """A function that starts a service in this process, without its worker, and stops the one before."""
    running = []

    def stop():
        for service in running:
            service.close()
        running.clear()

    def start():
        stop()
        running.append(deletion_service.Service(folder / "model.skops", folder))
        return running[0]

    yield start
    stop()


@pytest.fixture
def served(started):
    """A function that calls a service over HTTP, and the service."""
    service = started()
    server = deletion_service.ThreadingHTTPServer(("127.0.0.1", 0), deletion_service.Handler)
    server.service = service
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def call(method, path, body=None):
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if answer.getheader("Content-Type") == "application/json" else content

    yield call, service
    server.shutdown()
    thread.join()
    server.server_close()


def row(i):
    return TABLE.iloc[i].to_dict()


def test_from_the_request_to_the_receipt(served, folder):
    call, service = served
    before = call("POST", "/predict", {"rows": [row(0), row(1)]})
    assert before == (200, {"predictions": service.model.predict(TABLE[:2]).tolist()})
    status, told = call("POST", "/deletions", {"id": IDS[3]})
    assert (status, told["state"], told["receipt"]) == (202, "waiting", None)
    by_row = call("POST", "/deletions", {"row": row(4)})[1]["id"]
    unknown = call("POST", "/deletions", {"id": "customer-9999"})[1]["id"]
    assert pd.Timestamp(told["deadline"]) - pd.Timestamp(told["received"]) >= pd.Timedelta(days=28)
    assert call("GET", "/health")[1]["waiting"] == 3

    service.round()
    (receipt,) = service.model.receipts_
    assert receipt.n_erased == 2
    for request_id in (told["id"], by_row):
        status, after = call("GET", f"/deletions/{request_id}")
        assert (status, after["state"], after["receipt"]) == (200, "done", receipt.hash)
        assert after["deadline"] == told["deadline"] or request_id == by_row
    assert call("GET", f"/deletions/{unknown}")[1]["state"] == "unknown"
    assert call("GET", "/health")[1]["waiting"] == 0
    status, lines = call("GET", "/receipts")
    assert verify(lines.decode().splitlines(), head=receipt.hash) == 1
    saved = sk_unlearn.load(folder / "model.skops")
    assert len(saved.steps[-1][1].training_set_) == N - 2

    again = call("POST", "/deletions", {"id": IDS[3]})[1]["id"]
    service.round()
    assert call("GET", f"/deletions/{again}")[1]["receipt"] == receipt.hash
    assert len(service.model.receipts_) == 1


def test_what_is_no_request_is_answered_without_quoting_it(served):
    call, service = served
    bad = [{}, {"id": True}, {"id": None}, {"id": [1]}, {"id": 1, "row": {}}, {"row": {"no": 1}}, [], 7, "Mr Smith"]
    for body in bad:
        status, told = call("POST", "/deletions", body)
        assert (status, "Smith" in json.dumps(told)) == (400, False), body
    assert call("POST", "/predict", {"rows": [{"income": "much", "town": "x"}]})[0] == 400
    assert call("POST", "/predict")[0] == 413
    assert call("POST", "/other", {})[0] == 404
    assert call("GET", "/deletions/none")[0] == 404
    assert call("GET", "/")[0] == 404
    assert service.queue.waiting() == []


def test_predictions_go_on_while_requests_are_settled(served):
    call, service = served
    call("POST", "/deletions", {"id": IDS[5]})
    statuses, done = [], threading.Event()

    def ask():
        while not done.is_set():
            statuses.append(call("POST", "/predict", {"rows": [row(0)]})[0])

    asking = threading.Thread(target=ask)
    asking.start()
    service.round()
    done.set()
    asking.join()
    assert set(statuses) == {200}


@pytest.mark.parametrize("moment", ["accepted", "marked", "saved", "logged"])
def test_a_stop_at_each_step_is_made_good_at_the_start(started, folder, moment):
    service = started()
    request_id = service.queue.accept({"id": IDS[7]})
    if moment != "accepted":
        (request,) = service.queue.waiting()
        service.queue.mark({request_id: service.model.request_forget(**service.named(request))})
    if moment in ("saved", "logged"):
        service.model.settle()
        sk_unlearn.save(service.model, service.path)
    if moment == "logged":
        deletion_service.to_json_lines(service.model.receipts_, service.log)

    service = started()
    is_carried_out = moment in ("saved", "logged")
    assert service.queue.told(request_id)["state"] == ("done" if is_carried_out else "waiting")
    assert len(read_json_lines(service.log)) == is_carried_out
    service.round()
    told = service.queue.told(request_id)
    (receipt,) = read_json_lines(service.log, head=service.model.receipts_.head)
    assert (told["state"], told["receipt"]) == ("done", receipt.hash)
    assert len(sk_unlearn.load(service.path).steps[-1][1].training_set_) == N - 1


def test_a_round_that_fails_loses_nothing(started, monkeypatch):
    """A full disk when the model is saved: the file and the queue are as they were, and the next round does it."""
    service = started()
    request_id = service.queue.accept({"id": IDS[7]})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(deletion_service.sk_unlearn, "save", full)
        with pytest.raises(OSError, match="No space"):
            service.round()
    assert service.queue.told(request_id)["state"] == "waiting"
    service.recover()
    service.round()
    assert service.queue.told(request_id)["state"] == "done"
    assert len(read_json_lines(service.log)) == 1


def test_an_old_copy_of_the_model_is_not_served(started, folder, saved):
    service = started()
    service.queue.accept({"id": IDS[7]})
    service.round()
    (folder / "model.skops").write_bytes(saved)
    with pytest.raises(ReceiptError, match="old copy"):
        started()


def test_nothing_of_who_asked_is_in_any_file_afterwards(started, folder):
    service = started()
    secrets = [IDS[8], IDS[9], TABLE.town[10], repr(float(TABLE.income[10]))]
    alone = TABLE.town == TABLE.town[10]
    service.queue.accept({"id": IDS[8]})
    service.queue.accept({"id": "customer-unknown"})
    for i in np.flatnonzero(alone):  # all rows of that town, so that the encoder forgets it too
        service.queue.accept({"row": row(i)})
    service.queue.accept({"id": IDS[9]})
    queued = b"".join(path.read_bytes() for path in folder.iterdir() if "queue" in path.name)
    assert all(secret.encode() in queued for secret in secrets)
    service.round()
    assert [request["state"] for request in map(dict, service.queue.waiting())] == []
    for path in folder.iterdir():
        content = path.read_bytes()
        for secret in [*secrets, "customer-unknown"]:
            for code in ("utf-8", "utf-16-le", "utf-32-le"):
                assert secret.encode(code) not in content, (path.name, code)
        for i in np.flatnonzero(alone):
            assert np.float64(TABLE.income[i]).tobytes() not in content, path.name
    with sqlite3.connect(folder / "queue.sqlite") as db:
        assert db.execute("SELECT count(*) FROM requests WHERE asked IS NOT NULL").fetchone() == (0,)
    db.close()


def test_as_a_process(folder):
    """It starts, holds the model file for itself, and after a kill goes on where it was."""
    command = [sys.executable, "examples/deletion_service.py", str(folder / "model.skops"), "--folder", str(folder)]

    def start(every):
        process = subprocess.Popen(
            [*command, "--port", "0", "--every", every],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return process, int(re.search(r"port (\d+)", process.stdout.readline())[1])

    def call(port, method, path, body=None):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    process, port = start("1000")  # seconds between rounds
    try:
        request_id = call(port, "POST", "/deletions", {"id": IDS[11]})["id"]
        with pytest.raises(TimeoutError), sk_unlearn.persistence.exclusive(folder / "model.skops"):
            pass
    finally:
        process.kill()
        process.communicate()
    process, port = start("0.05")
    try:
        told, until = {}, time.monotonic() + 60
        while told.get("state") != "done" and time.monotonic() < until:
            told = call(port, "GET", f"/deletions/{request_id}")
            time.sleep(0.05)
        assert told["state"] == "done"
        assert call(port, "GET", "/health")["status"] == "ok"
    finally:
        process.kill()
        process.communicate()
    assert len(read_json_lines(folder / "receipts.jsonl")) == 1
