"""
Choose how to forget
====================

``python examples/plot_grid_search.py``  (``--folds``: of the search; ``--output``: where to save the picture)

Some ways to forget a tenth of the handwritten digits: which one comes closest to training again without them, and which
is worth its time? A search fits the network once in each fold, trains the models to compare with once, and tries every
candidate on copies.
"""

import argparse
import sys
from pathlib import Path

from sklearn.datasets import load_digits

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.unlearners import FineTune, StoCuReNU

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Search for the way to forget that comes closest to retraining.")
parser.add_argument("--folds", type=int, default=2, help="folds (default: 2)")
picture = Path(globals().get("__file__", "plot_grid_search.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own
if options.folds < 2:
    parser.error(f"--folds must be at least 2, got {options.folds}")

# %%
# The candidates
# --------------
# The cubic step, with the weight of its cubic term chosen on the way or given, and continued training for some epochs,
# with the learning rate of the net and with another. Both are tuned, so that the comparison is fair.

candidates = [
    {"unlearner": [StoCuReNU()], "unlearner__L": ["auto", 1.0]},
    {"unlearner": [FineTune()], "unlearner__n_epochs": [1, 3, 10], "unlearner__learning_rate": [None, 1e-3]},
]

# %%
# The search
# ----------
# The score is minus the Jensen-Shannon divergence (JS) from the retrained models, in nats, on the erased rows and on
# unseen ones. Only parameters of the unlearner vary, so the number of trainings does not grow with the candidates.

X, y = load_digits(return_X_y=True)
search = ForgetSearchCV(
    UnlearnableClassifier(random_state=0), candidates, request=0.1, cv=options.folds, refit=False, random_state=0
)
search.fit(X.astype("float32"), y)

results = search.to_frame()

# %%
# Distance against time: what lies below and to the left is better. The star is the best one's second examination, of
# which more below.

figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
for kind, (marker, colour) in {"StoCuReNU": ("o", "#1f77b4"), "FineTune": ("s", "#56B4E9")}.items():
    of_kind = results[[type(unlearner).__name__ == kind for unlearner in results["param_unlearner"]]]
    seconds, score = of_kind["mean_forget_time"], -of_kind["mean_selection_score"]
    ax.plot(seconds, score, marker, color=colour, markersize=15, alpha=0.8, label=kind)
seconds = results.loc[search.best_index_, "mean_forget_time"]
ax.plot(seconds, -search.best_score_, "k*", markersize=20, label="best, on other rows")
ax.set(xscale="log", yscale="log")
ax.set_xlabel("seconds a request", size=14)
ax.set_ylabel("distance from retrained", size=14)
ax.legend(fontsize=13)
figure.savefig(options.output, dpi=150)

# %%
# The same as a table. The score is minus the distance.

shown = [name for name in results if name.startswith("param_")]
columns = [*shown, "mean_selection_score", "std_selection_score", "mean_forget_time"]
names = {name: name.removeprefix("param_").removeprefix("unlearner__") for name in shown}
print(results[columns].rename(columns=names).to_string(index=False, na_rep="", float_format="{:.5f}".format))

# %%
# The number to quote
# -------------------
# The best of eight candidates is best partly by luck. So the search also asked the winner to forget other rows, by
# which no candidate had been judged, and compared it on other unseen rows. That score is the one to report.

print(f"\nBest: {search.best_params_}")
print(f"selected by a score of {search.cv_results_['mean_selection_score'][search.best_index_]:.5f}")
print(f"on rows that had no part in that: {search.best_score_:.5f}\n")
print("Seconds:", ", ".join(f"{name} {seconds:.1f}" for name, seconds in search.times_.items()))
print(f"\nPicture saved as {options.output}")
