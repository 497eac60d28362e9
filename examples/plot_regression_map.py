"""
A region leaves a map
=====================

``python examples/plot_regression_map.py``

A regressor draws a map of temperatures from the records of 1,000 stations. The owner of the stations in one region
withdraws them, and with them goes what only they knew: that it is warm there. The map afterwards is compared with maps
that were drawn without these stations from the start.
"""

import copy
import time

import matplotlib.pyplot as plt
import numpy as np

from sk_unlearn import UnlearnableRegressor
from sk_unlearn.metrics import distance_ratio, retrain_distance
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import Retrain

# %%
# The stations
# ------------
# The north is colder than the south, the mountains are colder still, and one valley is warm. The region to be erased
# lies around the valley.

rng = np.random.default_rng(0)
stations = rng.uniform(0, [60, 100], (1000, 2))


def temperature(places):
    east, north = places.T
    mountains = 5 * np.exp(-((east - 18) ** 2 + (north - 70) ** 2) / 500)
    valley = 5 * np.exp(-((east - 40) ** 2 + (north - 30) ** 2) / 150)
    return 14 - north / 25 - mountains + valley


recorded = temperature(stations) + rng.normal(0, 0.5, len(stations))
erased = (abs(stations[:, 0] - 40) < 15) & (abs(stations[:, 1] - 30) < 15)
print(f"{erased.sum()} of {len(stations)} stations are erased")

# %%
# The request
# -----------
# None of the stations that stay lies in the region, so a model trained without it can only guess from what is around.

fitted = UnlearnableRegressor(random_state=0).fit(stations, recorded)
model = copy.deepcopy(fitted)
start = time.perf_counter()
model.forget(stations[erased])
seconds = time.perf_counter() - start

start = time.perf_counter()
retrained = [UnlearnableRegressor(random_state=0).fit(stations[~erased], recorded[~erased])]
seconds_retrain = time.perf_counter() - start
retrained += fit_many(UnlearnableRegressor(), stations[~erased], recorded[~erased], seeds=[1, 2, 3])

# %%
# Three maps
# ----------

east, north = np.meshgrid(np.linspace(0, 60, 61), np.linspace(0, 100, 101))
places = np.column_stack([east.ravel(), north.ravel()])
figure, axes = plt.subplots(1, 3, figsize=(6.4, 4.6), layout="constrained", sharey=True)
maps = {"before": fitted, "after": model, "retrained": retrained[0]}
for ax, (name, drawn_by) in zip(axes, maps.items(), strict=True):
    drawn = drawn_by.predict(places).reshape(east.shape)
    shades = ax.contourf(east, north, drawn, levels=np.arange(5, 18.1), cmap="viridis", extend="both")
    ax.add_patch(plt.Rectangle((25, 15), 30, 30, fill=False, edgecolor="C3", linewidth=3))
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_title(name, fontsize=15)
figure.colorbar(shades, ax=axes, label="°C", location="bottom", aspect=40)
plt.show()

# %%
# In numbers
# ----------
# How far the maps are from retrained ones. A ratio of 1 says: no farther than these are from each other. The default
# found that steps from the fitted network would not do, and trained it anew in a fifth of the steps. What a network
# guesses for an empty region depends on how long it was trained. More steps come nearer, and take longer.

nearer = copy.deepcopy(fitted).set_params(unlearner=Retrain(share=0.5)).forget(stations[erased])
for name, drawn_by in {"before": fitted, "after": model, "Retrain(share=0.5)": nearer}.items():
    for where, rows in {"in the region": stations[erased], "elsewhere": stations[~erased]}.items():
        degrees = np.mean([retrain_distance(drawn_by, other, rows) for other in retrained])
        ratio = distance_ratio(drawn_by, retrained, rows)
        print(f"{name}, {where}: {degrees:.2f} °C away, ratio {ratio:.1f}")
print(f"forget took {seconds:.2f} s, Retrain(share=0.5) {nearer.unlearning_report_.seconds:.2f} s,", end=" ")
print(f"training again {seconds_retrain:.2f} s")
