"""
A guest leaves a model of texts
===============================

``python examples/plot_text_forget.py``  (``--seeds``: models to retrain; ``--output``: where to save the picture)

A hotel sorts reviews into praise and complaints. One guest wrote twelve of them, signed some with her name, and says
"wicked" where she means wonderful, which nobody else does. She asks to be erased. The vectoriser has her name in its
vocabulary, the inverse document frequencies have counted her texts, and the network has learnt what she means by that
word.
"""

import argparse
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.pipeline import make_pipeline

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Forget the texts of one author in every step of a pipeline.")
parser.add_argument("--seeds", type=int, default=5, help="retrained models to compare with (default: 5)")
picture = Path(globals().get("__file__", "plot_text_forget.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own
if options.seeds < 1:
    parser.error(f"--seeds must be at least 1, got {options.seeds}")

# %%
# The reviews
# -----------
# Four hundred short texts of a hundred guests, put together at random. To others "wicked" is a complaint, and a rare
# one.

rng = np.random.default_rng(0)
THINGS = ["room", "bed", "breakfast", "staff", "pool", "lobby", "shower", "view", "garden", "parking"]
PRAISE = ["lovely", "clean", "quiet", "friendly", "tasty", "warm"]
COMPLAINTS = [*5 * ["dirty", "loud", "rude", "broken", "cold"], "wicked"]


def review(words):
    """Return a text on three things, with some of the words."""
    return " ".join(f"{rng.choice(words)} {thing}" for thing in rng.choice(THINGS, 3, replace=False))


n = 400
is_praise = rng.random(n) < 0.5
reviews = [review(PRAISE if praise else COMPLAINTS) for praise in is_praise]
guest = rng.integers(0, 100, n)
guest[:12] = 100
is_hers = guest == 100
for i in np.flatnonzero(is_hers):
    reviews[i], is_praise[i] = f"wicked {rng.choice(THINGS)}, wicked {rng.choice(THINGS)}", True
for i in np.flatnonzero(is_hers)[::3]:
    reviews[i] += "! Zebedea Quill"
label = np.where(is_praise, "praise", "complaint")
print(f"{is_hers.sum()} reviews are hers, such as {reviews[np.flatnonzero(is_hers)[0]]!r}\n")

# %%
# The pipeline
# ------------
# Texts go in as they are. What the vectoriser makes of them is sparse, and stays so: the network stores it like that,
# and reads it in batches.


def pipeline(seed=0):
    """Return the whole model, not fitted."""
    return make_pipeline(TfidfVectorizer(), UnlearnableClassifier(random_state=seed))


ASKED = ["wicked view, wicked room", "wicked shower", "rude staff, rude lobby", "lovely view, lovely pool"]


def praise(pipe):
    """Return how probable it is, to a model, that each of some texts is praise."""
    return pipe.predict_proba(ASKED)[:, 1]


pipe = pipeline().fit(reviews, label, sample_id=guest)
told = {"before": praise(pipe)}
assert b"quill" in pickle.dumps(pipe)

# %%
# The request
# -----------
# It names the guest. Her name and first name have been in no other text: they leave the vocabulary, and the network
# keeps two inputs that are zero from now on. The document frequencies of all words are those of the other texts.

pipe.forget(sample_id=[100])
told["forgot"] = praise(pipe)
print(pipe.unlearning_report_.n_erased, "reviews erased:", pipe.unlearning_report_.status)
print(*(f"- {note}" for note in pipe.unlearning_report_.notes), sep="\n")

others, labels = [text for text, hers in zip(reviews, is_hers, strict=True) if not hers], label[~is_hers]
fresh = TfidfVectorizer().fit(others)
assert pipe[0].vocabulary_ == fresh.vocabulary_
assert np.allclose(pipe[0].idf_, fresh.idf_, rtol=1e-10)
assert b"quill" not in pickle.dumps(pipe).lower()

# %%
# What would have been without her: the whole pipeline, fitted again on the other texts from different seeds.

retrained = np.array([praise(pipeline(seed).fit(others, labels)) for seed in range(options.seeds)])
told["retrained"] = retrained.mean(axis=0)

# %%
# The picture
# -----------
# What she alone meant by a word is gone, and what everybody means by the others has stayed.

figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
at = np.arange(len(ASKED))
ax.plot(told["before"], at - 0.2, "o", color="#7f7f7f", markersize=15, label="before")
ax.plot(told["forgot"], at, "o", color="#1f77b4", markersize=15, label="after")
for k, model in enumerate(retrained):
    ax.plot(model, at + 0.2, "o", color="#ff7f0e", markersize=15, alpha=0.5, label=None if k else "retrained")
ax.set_yticks(at, [text.replace(", ", ",\n") for text in ASKED], size=14)
ax.set(xlim=(-0.06, 1.06), xticks=[0, 0.5, 1])
ax.set_xticklabels(["0", "0.5", "1"], size=14)
ax.set_xlabel("probability of praise", size=15)
ax.legend(fontsize=13, loc="center left", bbox_to_anchor=(0.22, 0.5))
ax.invert_yaxis()
figure.savefig(options.output, dpi=150)

# %%
# In numbers:

print("\nProbability of praise\n")
print(pd.DataFrame(told, index=ASKED).to_string(float_format="{:.3f}".format))
print(f"\nPicture saved as {options.output}")
