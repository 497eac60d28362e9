"""
A deletion service to copy
==========================

A small HTTP service around a saved model that predicts, takes requests to forget people, and answers for them
afterwards. It is meant to be copied and changed; it needs nothing but this package and the standard library. ::

    python examples/deletion_service.py model.skops --folder state --port 8000

    curl -d '{"rows": [{"age": 31, "town": "Ulm"}]}' localhost:8000/predict
    curl -d '{"id": "customer-7"}' localhost:8000/deletions            # 202, and the id of the request
    curl -d '{"row": {"age": 31, "town": "Ulm"}}' localhost:8000/deletions
    curl localhost:8000/deletions/THE-ID                               # state, deadline, receipt
    curl localhost:8000/receipts                                       # all receipts, one JSON object a line
    curl localhost:8000/health

The model is one with a queue: an estimator of this package, or its ``Pipeline``. It listens to this machine alone: put
what checks who is asking, and encryption, in front of it.

What happens when
-----------------

1. A request is written into a SQLite file, and only then is it accepted (202). From then on no kill loses it.
2. The worker takes all that wait, marks their rows in the model, and notes in the queue by which ids the model knows
   them; then ``settle`` forgets all of them in one solve. Predictions go on meanwhile, from the old parameters.
3. The model file is replaced, at once or not at all. It holds the receipt: *this* is the moment the request is done.
4. The receipt goes to the log, and the queue is told: what the request named is wiped from it.

A kill before 3 leaves the old model, and the requests wait still. A kill after 3 leaves a model whose receipts name
requests that the queue takes for waiting: at the start these are found and told so. No step has to be undone.
"""

# sphinx_gallery_thumbnail_path = '_static/deletion_service.svg'

import argparse
import json
import sqlite3
import threading
import time
import uuid
from contextlib import ExitStack
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd

import sk_unlearn
from sk_unlearn.persistence import exclusive
from sk_unlearn.receipts import prove_erased, to_json_lines

LARGEST_BODY = 1_000_000  # bytes
SECONDS_AFTER_A_FAILURE = 30


class Queue:
    """What people asked for, in a file that survives a kill at any moment."""

    def __init__(self, path):
        # One connection, one lock: requests are rare, and whoever waits for the lock waits for a single write.
        self._one_at_a_time = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns, power cuts included
        self._db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, received TEXT, "
            "deadline TEXT, state TEXT NOT NULL, asked TEXT, marked TEXT, receipt TEXT)"
        )
        self._wipe()

    def accept(self, asked):
        """Write down who is to be forgotten, and return the id of the request."""
        request_id, received = str(uuid.uuid4()), datetime.now(timezone.utc)
        deadline = (pd.Timestamp(received) + pd.DateOffset(months=1)).isoformat()  # GDPR, Article 12(3)
        with self._one_at_a_time:
            self._db.execute(
                "INSERT INTO requests (id, received, deadline, state, asked) VALUES (?, ?, ?, 'waiting', ?)",
                (request_id, received.isoformat(), deadline, json.dumps(asked)),
            )
        return request_id

    def waiting(self):
        with self._one_at_a_time:
            return self._db.execute("SELECT * FROM requests WHERE state = 'waiting' ORDER BY number").fetchall()

    def told(self, request_id):
        """Return what may be told of a request, or None."""
        with self._one_at_a_time:
            row = self._db.execute(
                "SELECT id, received, deadline, state, receipt FROM requests WHERE id = ?", (request_id,)
            ).fetchone()
        return None if row is None else dict(row)

    def mark(self, marks):
        """Note by which ids the model knows requests, in one transaction."""
        self._change("UPDATE requests SET marked = ? WHERE id = ?", [(mark, one) for one, mark in marks.items()])

    def finish(self, outcomes):
        """Note how requests ended, each a state and the hash of a receipt, and wipe what they named."""
        rows = [(state, receipt, one) for one, (state, receipt) in outcomes.items()]
        self._change("UPDATE requests SET state = ?, receipt = ?, asked = NULL WHERE id = ?", rows)
        if rows:
            with self._one_at_a_time:
                self._wipe()

    def close(self):
        self._db.close()

    def _change(self, statement, rows):
        with self._one_at_a_time:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")

    def _wipe(self):
        """Empty the write-ahead log, which holds pages as they were before."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class Service:
    """A model, its queue, and the log of its receipts."""

    def __init__(self, path, folder, trusted=None):
        self.path, self.log = Path(path), Path(folder) / "receipts.jsonl"
        self._held = ExitStack()
        self._held.enter_context(exclusive(self.path, wait=10))  # or the command line could change the file meanwhile
        self.trusted = trusted
        self.queue = Queue(Path(folder) / "queue.sqlite")
        self.failure = None  # of the last round
        self.recover()

    def close(self):
        """Let others have the model file. A kill does it, too."""
        self.queue.close()
        self._held.close()

    def recover(self):
        """Go on from what is on the disk, where a kill or an error has left it."""
        self.model = sk_unlearn.load(self.path, trusted=self.trusted)
        # What the log lacks, it gets from the model. A model that is older than the log, a backup, is an error here.
        to_json_lines(self.model.receipts_, self.log)
        self.finish_carried_out(self.model.receipts_)

    # ------------------------------------------------------------------ what anyone may ask

    def table(self, rows):
        """Return rows out of JSON as the model takes them: by name where it knows names."""
        names = getattr(self.model, "feature_names_in_", None)
        return np.asarray(rows) if names is None else pd.DataFrame(rows)[list(names)]

    def predict(self, rows):
        return self.model.predict(self.table(rows)).tolist()

    def accept(self, body):
        """Check what can be checked at once, and write the request down."""
        if set(body) == {"row"}:
            self.table([body["row"]])
        elif set(body) != {"id"} or type(body["id"]) not in (int, str):
            raise ValueError
        return self.queue.accept(body)

    def health(self):
        waiting, now = self.queue.waiting(), datetime.now(timezone.utc).isoformat()
        return {
            "status": "ok" if self.failure is None else "the last round failed",
            "failure": self.failure,
            "waiting": len(waiting),
            "overdue": sum(pd.Timestamp(each["deadline"]) < pd.Timestamp(now) for each in waiting),
            "receipts": len(self.model.receipts_),
            "retrain_recommended": bool(self.model.retrain_recommended_),
        }

    # ------------------------------------------------------------------ the worker

    def work(self, every=1.0):
        """Carry out what waits, round after round."""
        while True:
            try:
                if self.failure is not None:
                    self.recover()
                self.round()
                self.failure = None
            except Exception as error:  # such as a full disk; nothing is lost: the requests wait in the queue
                self.failure = type(error).__name__  # its text might quote a row
                time.sleep(SECONDS_AFTER_A_FAILURE)
            time.sleep(every)

    def round(self):
        """Carry out all requests that wait, in one solve."""
        waiting = self.queue.waiting()
        marks, outcomes = {}, {}
        for request in waiting:
            asked = self.named(request)
            try:
                received = datetime.fromisoformat(request["received"])
                marks[request["id"]] = self.model.request_forget(**asked, received=received)
            except (ValueError, TypeError):  # no such person, or row, is stored
                outcomes[request["id"]] = self.erased_before(asked)
        self.queue.finish(outcomes)
        if not marks:
            return
        self.queue.mark(marks)
        self.model.settle()
        sk_unlearn.save(self.model, self.path)
        to_json_lines(self.model.receipts_, self.log)
        self.finish_carried_out(self.model.receipts_[-1:])

    def named(self, request):
        asked = json.loads(request["asked"])
        return {"sample_id": [asked["id"]]} if "id" in asked else {"X_del": self.table([asked["row"]])}

    def erased_before(self, asked):
        """Say how a request ends whose rows are not there: an earlier one has erased them, or nobody knows them."""
        X, ids = asked.get("X_del"), asked.get("sample_id")
        try:
            (found,) = prove_erased(self.model.receipts_, X, sample_id=ids, key=self.model.receipt_key_)
        except ValueError:  # no row that the model could have learnt
            found = []
        erased = [receipt.hash for receipt in found if receipt.verb != "correct"]
        return ("done", erased[-1]) if erased else ("unknown", None)

    def finish_carried_out(self, receipts):
        """Tell the queue of requests that receipts name: they are in the model file."""
        receipt_of = {
            each["request_id"]: receipt.hash
            for receipt in receipts
            for each in receipt.outcome.get("requests", ())
        }  # fmt: skip
        waiting = self.queue.waiting()
        self.queue.finish(
            {each["id"]: ("done", receipt_of[each["marked"]]) for each in waiting if each["marked"] in receipt_of}
        )


class Handler(BaseHTTPRequestHandler):
    """From HTTP to the service and back."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        service, path = self.server.service, self.path
        if path == "/health":
            health = service.health()
            self.answer(200 if health["failure"] is None else 503, health)
        elif path == "/receipts":
            whole, _, _ = service.log.read_bytes().rpartition(b"\n")  # a line that is being written is not shown
            self.send(200, whole + b"\n", "application/jsonl")
        elif path.startswith("/deletions/"):
            told = service.queue.told(path.removeprefix("/deletions/"))
            self.answer(404 if told is None else 200, told or {"error": "no such request"})
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_BODY:
            self.close_connection = True  # the body was not read
            self.answer(413, {"error": f"send a body of 1 to {LARGEST_BODY} bytes, and its length"})
            return
        body = self.rfile.read(length)
        try:
            if self.path == "/predict":
                self.answer(200, {"predictions": self.server.service.predict(json.loads(body)["rows"])})
            elif self.path == "/deletions":
                request_id = self.server.service.accept(json.loads(body))
                self.answer(202, self.server.service.queue.told(request_id))
            else:
                self.answer(404, {"error": "no such page"})
        except (ValueError, TypeError, KeyError):  # whose texts might quote the body
            self.answer(400, {"error": 'send JSON: {"rows": [...]} to predict, {"id": ...} or {"row": ...} to delete'})
        except Exception as error:  # such as a full disk: the request is not accepted
            self.answer(500, {"error": type(error).__name__})

    def answer(self, status, content):
        self.send(status, json.dumps(content).encode(), "application/json")

    def send(self, status, content, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Keep no log of who asked what: it would be one more place to delete from."""


def main(arguments=None):
    parser = argparse.ArgumentParser(description="A deletion service around a saved model.")
    parser.add_argument("model")
    parser.add_argument("--folder", type=Path, default=Path("."), help="of the queue and the log of receipts")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between rounds; 86400 settles once a day")
    parser.add_argument("--trusted", nargs="+", help="classes of your own that the model file may ask for")
    options = parser.parse_args(arguments)
    service = Service(options.model, options.folder, options.trusted)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.service = service
    threading.Thread(target=service.work, args=(options.every,), daemon=True).start()
    print(f"serving on port {server.server_port}", flush=True)
    server.serve_forever()  # until it is killed, which it may be at any moment


if __name__ == "__main__":
    main()
