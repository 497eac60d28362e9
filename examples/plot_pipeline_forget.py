"""
A person leaves a whole pipeline
================================

``python examples/plot_pipeline_forget.py``  (``--seeds``: models to retrain; ``--output``: where to save the picture)

A shop predicts from a table of its customers who will renew a contract. The table is as tables are: numbers with gaps,
words, dates. One customer asks to be erased. She is the only one from her village, she is rich, and she never renewed
where everybody like her does. So she is everywhere: in the mean that fills gaps, in the scale of the incomes, in the
encoder, which has her village as a category in clear text, and in the network.
"""

import argparse
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import prove_erased

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Forget one customer in every step of a pipeline.")
parser.add_argument("--seeds", type=int, default=5, help="retrained models to compare with (default: 5)")
picture = Path(globals().get("__file__", "plot_pipeline_forget.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own
if options.seeds < 1:
    parser.error(f"--seeds must be at least 1, got {options.seeds}")

# %%
# The table
# ---------
# Six hundred customers with up to three contracts each. Who renews depends on the age, the income and the plan. Our
# customer has three contracts and the number 77.

rng = np.random.default_rng(0)
n = 600
customer = np.sort(rng.integers(0, 300, n))
customers = pd.DataFrame(
    {
        "age": rng.integers(18, 90, n).astype(float),
        "income": rng.lognormal(10, 0.4, n).round(),
        "town": rng.choice(["Bonn", "Jena", "Ulm", "Celle"], n),
        "plan": rng.choice(["basic", "family", "student"], n, p=[0.5, 0.3, 0.2]),
        "since": pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 2000, n), unit="D"),
    }
)
customers.loc[rng.random(n) < 0.1, "age"] = np.nan
liking = customers["plan"].map({"basic": 0.0, "family": 1.0, "student": -2.0}).to_numpy()
score = (customers["income"] - 22_000) / 8_000 + liking
renewed = np.where(score + rng.normal(0, 0.7, n) > 0, "yes", "no")

is_hers = customer == 77
customers.loc[is_hers, ["age", "income", "town", "plan"]] = [71.0, 90_000.0, "Lonelyville", "basic"]
renewed[is_hers] = "no"
her_rows = customers[is_hers]
print(her_rows.to_string(), "\n")

# %%
# The pipeline
# ------------
# It is scikit-learn's in all respects, but imported from elsewhere. Rows go in as they are; identifiers beside them.


def years(dates):
    """Years since 2019."""
    return np.asarray((dates - pd.Timestamp("2019-01-01")) / pd.Timedelta(days=365.25), dtype=float)


def pipeline(seed=0):
    """Return the whole model, not fitted."""
    table = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town", "plan"]),
        (FunctionTransformer(years), ["since"]),
    )
    return make_pipeline(table, UnlearnableClassifier(random_state=seed))


def what_it_knows(pipe):
    """Return what of her can be read off the steps and the file."""
    numbers, words = pipe[0].named_transformers_["pipeline"], pipe[0].named_transformers_["onehotencoder"]
    return {
        "mean age": numbers[0].statistics_[0],
        "scale of income": numbers[1].scale_[1],
        "towns": " ".join(words.categories_[0]),
        "village in the pickle": b"Lonelyville" in pickle.dumps(pipe),
        "renews, says the model": pipe.predict_proba(her_rows)[:, 1].mean(),
    }


pipe = pipeline().fit(customers, renewed, sample_id=customer)
known = {"before": what_it_knows(pipe)}
others, other_renewed = customers[~is_hers], renewed[~is_hers]
predicted = {"before": pipe.predict_proba(others)[:, 1]}

# %%
# The request
# -----------
# One of her contracts is handed in as the record says, with the columns in another order; then all that is stored under
# her number. Either is a request of its own, carried out whole or not at all, and leaves a receipt.

pipe.forget(her_rows.iloc[[0]][["town", "since", "plan", "income", "age"]])
pipe.forget(sample_id=[77])
known["forgot"] = what_it_knows(pipe)
predicted["forgot"] = pipe.predict_proba(others)[:, 1]
for report in pipe.unlearning_history_:
    print(f"{report.n_erased} rows erased in {report.seconds:.2f} s: {report.status}")

# %%
# What would have been without her: the whole pipeline, fitted again on the others. There is no single such model, so
# several are fitted, from different seeds.

retrained = [pipeline(seed).fit(others, other_renewed) for seed in range(options.seeds)]
known["retrained"] = what_it_knows(retrained[0])
predicted["retrained"] = np.mean([model.predict_proba(others)[:, 1] for model in retrained], axis=0)
hers_retrained = [model.predict_proba(her_rows)[:, 1].mean() for model in retrained]

# %%
# What the models say about her
# -----------------------------
# That she would not renew is what the model had learnt from her alone. Without her it is that somebody of her income
# does, and so say all retrained models.

BEFORE, AFTER, RETRAINED = "#7f7f7f", "#1f77b4", "#ff7f0e"
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.plot("before", known["before"]["renews, says the model"], "o", color=BEFORE, markersize=20)
ax.plot("after", known["forgot"]["renews, says the model"], "o", color=AFTER, markersize=20)
ax.plot(["retrained"] * len(hers_retrained), hers_retrained, "o", color=RETRAINED, markersize=20, alpha=0.6)
ax.set(ylim=(-0.06, 1.06), yticks=[0, 0.5, 1])
ax.set_ylabel("probability that she renews", size=15)
ax.tick_params(labelsize=16)
ax.margins(x=0.25)
figure.savefig(options.output, dpi=150)
print(f"\nPicture saved as {options.output}")

# %%
# What the steps know is now what they would know without her, to the last digits. Of the village nothing is left,
# neither in the encoder nor anywhere in the file.

print("\n", pd.DataFrame(known).to_string(float_format="{:.6f}".format), "\n", sep="")
for name in ("mean age", "scale of income"):
    assert np.isclose(known["forgot"][name], known["retrained"][name], rtol=1e-10)
assert known["forgot"]["towns"] == known["retrained"]["towns"]
assert not known["forgot"]["village in the pickle"]

# %%
# The predictions for all others, against those of the retrained models: they have stayed, and are theirs.

_, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for name, colour in (("before", BEFORE), ("forgot", AFTER)):
    ax.scatter(predicted["retrained"], predicted[name], s=12, alpha=0.6, label=name, color=colour)
ax.plot([0, 1], [0, 1], color=RETRAINED, zorder=0)
ax.set(xlabel="probability of the others, retrained", ylabel="before and after")
ax.legend()

# %%
# The proof
# ---------
# Years later somebody asks whether these contracts were erased. Whoever has the records and the key can tell from the
# receipts, in which no record is; the fourth record is of somebody else.

asked = pd.concat([her_rows, others.iloc[[0]]])
for row, receipts in zip(asked.index, prove_erased(pipe.receipts_, asked, key=pipe.receipt_key_), strict=True):
    print(f"row {row}:", ", ".join(f"erased {receipt.completed}" for receipt in receipts) or "no receipt")

plt.show()
