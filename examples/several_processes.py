"""
Rows that several processes hold
================================

Each process has a part of the rows of breast-cancer patients. Together they fit one model and forget two patients: the
model is the one that a single process makes of all rows. Run it with as many processes as you like::

    torchrun --nproc-per-node 2 examples/several_processes.py

Alone, ``python examples/several_processes.py`` does the same with all rows in one process.
"""

# sphinx_gallery_thumbnail_path = '_static/several_processes.svg'

import os
from contextlib import nullcontext

import numpy as np
from sklearn.datasets import load_breast_cancer

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.distributed import Processes, data_parallel

X, y = load_breast_cancer(return_X_y=True)
patient = np.arange(len(X))
together = data_parallel() if "WORLD_SIZE" in os.environ else nullcontext(Processes(rank=0, size=1))
with together as processes:
    # Here each process picks its share; in earnest it would read its own file.
    mine = np.array_split(patient, processes.size)[processes.rank]
    est = UnlearnableClassifier(random_state=0).fit(X[mine], y[mine], sample_id=patient[mine])
    # The same request in all processes, whoever holds the rows.
    est.forget(sample_id=[3, 500])
    report, n_left, accuracy = est.unlearning_report_, len(est.training_set_), est.score(X, y)
    if processes.rank == 0:
        print(f"{processes.size} processes forgot {report.n_erased} rows; {n_left} are left, accuracy {accuracy:.3f}")
