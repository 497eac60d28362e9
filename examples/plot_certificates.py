"""
What a certificate is worth
===========================

``python examples/plot_certificates.py``  (``--rows``: to erase; ``--epochs``: of training; ``--output``: the picture)

Four methods do not only forget, they say what is guaranteed: :class:`~sk_unlearn.unlearners.CertifiedRemoval`,
:class:`~sk_unlearn.unlearners.CertifiedNewton`, :class:`~sk_unlearn.unlearners.NoisyFineTune` and
:class:`~sk_unlearn.unlearners.Retrain`. Here they forget the same handwritten digits, side by side: what each promises,
what is left of the model, and what it costs.
"""

import argparse
import copy
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.unlearners import CertifiedNewton, CertifiedRemoval, NoisyFineTune, Retrain, VacuousBoundWarning

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Compare what certified methods promise, keep and cost.")
parser.add_argument("--rows", type=int, default=50, help="rows to erase (default: 50)")
parser.add_argument("--epochs", type=int, default=100, help="for which the network is trained (default: 100)")
picture = Path(globals().get("__file__", "plot_certificates.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own

EPSILON, DELTA = 1.0, 1e-5

# %%
# Two models
# ----------
# Guarantees of steps from the old weights are for one linear layer with a convex loss and weight decay. So the digits
# are learnt twice: by such a layer, and by the small network that is built in.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)
erased, kept = slice(0, options.rows), slice(options.rows, None)

layer = NeuralNetClassifier(
    torch.nn.Linear,
    module__in_features=64,
    module__out_features=10,
    module__dtype=torch.float64,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer__weight_decay=0.01,
    optimizer__momentum=0.9,
    lr=0.2,
    max_epochs=200,
    batch_size=-1,
    train_split=None,
    verbose=0,
)


plain = {
    "linear layer": UnlearnableClassifier(layer, random_state=0).fit(X_train, y_train),
    "network": UnlearnableClassifier(MLPNetClassifier(max_epochs=options.epochs), random_state=0).fit(X_train, y_train),
}


def fitted(model, unlearner):
    """Return a fitted model that this method can forget from: two of them have a hand in the training as well."""
    est = copy.deepcopy(plain[model]).set_params(unlearner=unlearner)
    return est.fit(X_train, y_train) if isinstance(unlearner, CertifiedNewton | CertifiedRemoval) else est


# %%
# Side by side
# ------------
# *ε = 0* with *exact*: whatever the erased rows had been, every number in the model would be the same. *(ε, δ)*: noise
# hides what is left of them. *Not proven* counts what the certificate rests on and nobody has checked, which
# ``print(model.certificate_)`` lists. *Vacuous*: the bound says no more than what holds for any two models.


def told(model_name, name, est, seconds):
    """Return a row of the table."""
    certificate = est.certificate_
    return {
        "model": model_name,
        "method": name,
        "guarantee": "exact" if certificate.kind == "exact" else "vacuous" if certificate.vacuous else "(ε, δ)",
        "ε": certificate.epsilon,
        "not proven": sum(not assumption.checked for assumption in certificate.assumptions),
        "kept rows": est.score(X_train[kept], y_train[kept]),
        "unseen rows": est.score(X_test, y_test),
        "seconds": seconds,
    }


METHODS = {
    "linear layer": {
        "Retrain": Retrain(),
        "CertifiedRemoval": CertifiedRemoval(EPSILON, DELTA, sigma=1.0),
        "CertifiedNewton": CertifiedNewton(EPSILON, DELTA, convexity=0.0),
    },
    "network": {
        "Retrain": Retrain(),
        "Retrain(share=0.1)": Retrain(share=0.1),
        "NoisyFineTune": NoisyFineTune(EPSILON, DELTA, n_epochs=10),
        "CertifiedNewton": CertifiedNewton(delta=DELTA),
    },
}

table, controls = [], {}
for model_name, methods in METHODS.items():
    for name, unlearner in methods.items():
        est = fitted(model_name, unlearner)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VacuousBoundWarning)  # the table says so
            est.forget(X_train[erased], y_train[erased])
        table.append(told(model_name, name, est, time.perf_counter() - start))
        if name == "NoisyFineTune":
            controls = est.unlearning_report_.extra

table = pd.DataFrame(table).set_index(["model", "method"])
table["of retraining"] = table["seconds"] / table["seconds"].xs("Retrain", level="method").reindex(
    table.index, level="model"
)
shown = {
    "ε": "{:.3g}".format,
    "kept rows": "{:.3f}".format,
    "unseen rows": "{:.3f}".format,
    "seconds": "{:.2f}".format,
    "of retraining": "{:.0%}".format,
}

# %%
# How long each takes, and what it guarantees. Green is exact, blue a guarantee that says something, and pale one that
# says nothing.

COLOURS = {"exact": "#009E73", "(ε, δ)": "#1f77b4", "vacuous": "#CCCCCC"}
labels = [f"{method}, {model.split()[0]}" for model, method in table.index]
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
bars = ax.barh(labels, table["of retraining"], color=table["guarantee"].map(COLOURS))
told = [
    "exact" if kind == "exact" else f"ε = {value:.2g}"
    for kind, value in zip(table["guarantee"], table["ε"], strict=True)
]
ax.bar_label(bars, told, padding=4, size=14)
ax.spines[["top", "right"]].set_visible(False)
ax.set(xlim=(0, 1.25), xticks=[0, 0.5, 1])
ax.set_xticklabels(["0", "half", "time of retraining"], size=13)
ax.tick_params(axis="y", labelsize=12.5)
ax.invert_yaxis()
figure.savefig(options.output, dpi=150)

# %%
# In numbers, with the accuracy on kept and on unseen rows:

print(f"{options.rows} of {len(y_train)} rows erased, δ = {DELTA:g}; accuracy on kept and unseen rows\n")
print(table.to_string(formatters=shown))

# %%
# How to read it
# --------------
# *For one linear layer* the certificates mean something: ε is small and the noise costs little. What they rest on and
# cannot be checked is of the kind that the seed is kept secret and that retraining arrives at its optimum. That of
# ``CertifiedRemoval`` is for one model alone; with ``noise="random_walk"`` it is for all models of a sequence. But the
# problem is so easy there that training it again costs little, too.
#
# *For a network* ``CertifiedNewton`` has an ε of a size that protects nobody, and says that its bound is vacuous.
# ``NoisyFineTune`` has a small ε that is true, since its noise hides all that the old weights knew. So it owes them
# nothing: the same run from the initial weights, the cold control, comes off as well. Its seconds are those of both.

print(
    f"\nNoisyFineTune on kept rows: {controls['retained_accuracy']:.3f} from the fitted weights, "
    f"{controls['cold_retained_accuracy']:.3f} from the initial ones"
)

# %%
# ``Retrain`` needs no noise, no ε and no secret, and may take a share of the steps. Where a guarantee for a network is
# asked for, it is the first thing to try; where the old weights are to be used, measure what is left
# (:doc:`plot_audit`).

print(f"\nPicture saved as {options.output}")
