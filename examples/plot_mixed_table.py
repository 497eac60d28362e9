"""
A clinic withdraws its patients from a mixed table
==================================================

``python examples/plot_mixed_table.py``

A model predicts the course of a disease from a table with numbers, gaps and categories. One of four clinics takes back
its patients. ``pipe.forget`` takes their rows as they stand in the table, and every step forgets them: the mean that
fills gaps, the scale of each column, the category of the clinic, and the network.
"""

import copy
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_unlearn import UnlearnableRegressor
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.unlearners import Retrain

# %%
# The table
# ---------
# The patients of scikit-learn's diabetes data, with gaps and a column for the clinic, which are made up. One clinic
# measures the progression 80 points too high, and the model learns that.

table, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
names = {"s1": "cholesterol", "s2": "ldl", "s3": "hdl", "s4": "ratio", "s5": "triglycerides", "s6": "sugar"}
table = table.rename(columns=names)
numbers = [column for column in table if column != "sex"]
rng = np.random.default_rng(0)
for column in ["bmi", "bp", "sugar"]:
    table.loc[rng.random(len(table)) < 0.1, column] = np.nan
table["sex"] = table["sex"].map({1: "a", 2: "b"})
table["clinic"] = rng.choice(["North", "South", "Lake", "Harbour"], len(table), p=[0.3, 0.3, 0.3, 0.1])
leaves = table["clinic"] == "Harbour"
progression = progression + 80 * leaves
print(table.head().to_string())

# %%
# The model
# ---------
# All is scikit-learn's, but for the last step and for ``make_pipeline``, which comes from ``sk_unlearn.pipeline``.


def make(seed=0):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), ["sex", "clinic"]),
    )
    return make_pipeline(columns, UnlearnableRegressor(random_state=seed))


fitted = make().fit(table, progression)

# %%
# The request
# -----------

pipe = copy.deepcopy(fitted)
start = time.perf_counter()
pipe.forget(table[leaves])
seconds = time.perf_counter() - start

# %%
# The yardstick: the whole pipeline, fitted on the other clinics.

start = time.perf_counter()
retrained = [make(seed).fit(table[~leaves], progression[~leaves]) for seed in range(4)]
seconds_retrain = (time.perf_counter() - start) / len(retrained)

# %%
# What each model knows of the clinics
# ------------------------------------
# What would it predict, on average, if all patients were from one clinic? Afterwards the model has never heard of the
# clinic that left, and treats its patients as any others.

clinics = ["North", "South", "Lake", "Harbour"]


def by_clinic(model):
    return [model.predict(table.assign(clinic=clinic)).mean() for clinic in clinics]


figure, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
for number, model in enumerate(retrained):
    label = "retrained" if number == 0 else None
    ax.scatter(by_clinic(model), clinics, s=300, facecolor="none", edgecolor="C1", linewidth=2.5, label=label)
ax.scatter(by_clinic(fitted), clinics, s=150, color="0.45", marker="X", label="before")
ax.scatter(by_clinic(pipe), clinics, s=110, color="C0", label="after")
ax.set_xlabel("predicted progression, all patients", fontsize=14)
ax.tick_params(labelsize=14)
ax.get_yticklabels()[-1].set_color("C3")
ax.margins(y=0.2)
ax.legend(fontsize=14)
plt.show()

# %%
# In numbers
# ----------
# The steps before the network are to the last digits what they are without the clinic.


def step(model, name):
    return model[0].named_transformers_[name]


for name, model in {"before": fitted, "after": pipe, "retrained": retrained[0]}.items():
    known = ", ".join(step(model, "onehotencoder").categories_[1])
    fill = step(model, "pipeline")[0].statistics_[numbers.index("bmi")]
    print(f"{name}: gaps in bmi are filled with {fill:.6f}; clinics: {known}")
assert "Harbour" not in step(pipe, "onehotencoder").categories_[1]

# %%
# The network is close to retrained ones, not equal. A distance ratio of 1 says that it is no farther from them than
# they are from each other. A whole clinic is much to forget. Where nothing at all may be left of its rows, ``Retrain``
# trains the network anew, here in half of the steps.

exact = copy.deepcopy(fitted).set_params(unlearnableregressor__unlearner=Retrain(share=0.5)).forget(table[leaves])
for name, model in {"before": fitted, "after": pipe, "Retrain(share=0.5)": exact}.items():
    ratios = [distance_ratio(model, retrained, rows) for rows in (table[leaves], table[~leaves])]
    print(f"{name}: distance ratio {ratios[0]:.1f} on the erased rows, {ratios[1]:.1f} on the others")
print(f"forget took {seconds:.2f} s, Retrain(share=0.5) {exact.unlearning_report_.seconds:.2f} s,", end=" ")
print(f"fitting again {seconds_retrain:.2f} s")
