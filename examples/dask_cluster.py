"""
Trainings on a Dask cluster
===========================

Whatever takes ``n_jobs`` goes to the workers of a Dask cluster under ``joblib.parallel_config``: here an audit's
retrained models and the shards of a model, on a cluster of two processes of this machine::

    pip install "sk-unlearn[dask]"
    python examples/dask_cluster.py

For workers on other machines put the address of your scheduler, ``Client("tls://scheduler:8786", security=...)``, in
place of the ``LocalCluster``.
"""

# sphinx_gallery_thumbnail_path = '_static/dask_cluster.svg'

from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.datasets import load_iris

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.references import fit_many

# A terminal's Ctrl-C reaches the workers too, which would end; this one stops the request and leaves them.
KEEP_WORKERS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def main():
    X, y = load_iris(return_X_y=True)
    # One thread each, for trainings in one process take turns.
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, preload=[KEEP_WORKERS])
    with cluster, Client(cluster), parallel_config("dask"):
        models = fit_many(UnlearnableClassifier(), X, y, seeds=range(4))
        print("accuracy of models retrained from other seeds:", [round(model.score(X, y), 2) for model in models])
        est = ShardedClassifier(n_shards=4, random_state=0).fit(X, y)
        est.forget(X[:1])
        print("shards trained anew:", est.unlearning_report_.extra["n_shards_touched"], "of", len(est.estimators_))
        print(est.certificate_)


if __name__ == "__main__":  # for the workers import this file
    main()
