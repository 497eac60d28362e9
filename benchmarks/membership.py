# Run: python -m benchmarks.membership
"""What U-LiRA can tell about rows that were forgotten, on digits, beside models retrained without them.

Usage: ``python -m benchmarks.membership [--shadows 64] [--share 0.1] [--label 3]``. Requests: a share of the rows at
random (the candidates are twice as many, each shadow model forgets half of them) and all that a model knew of a class.
Area under the ROC curve and true positive rates, with bootstrap intervals over models; half of the shadow models are
attacked by what the others teach. What counts is the difference to "retrained". "before" attacks models that have
forgotten nothing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics.membership import fit_shadows, ulira
from sk_unlearn.unlearners import FineTune, Retrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--label", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default="before,default,1 epoch,20 epochs,retrained")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    drawn = np.random.default_rng(options.seed).permutation(len(y))[: round(2 * options.share * len(y))]
    requests = {f"{options.share:.0%} of the rows": drawn, f"class {options.label}": np.flatnonzero(y == options.label)}
    known = {
        "before": None,
        "default": None,
        "1 epoch": FineTune(1),
        "20 epochs": FineTune(20),
        "retrained": Retrain(),
    }
    unlearners = {name: known[name] for name in options.methods.split(",")}
    table = []
    for request, candidates in requests.items():
        start = time.perf_counter()
        shadows = fit_shadows(
            UnlearnableClassifier(), X, y, candidates, n_shadows=options.shadows, random_state=options.seed
        )
        print(f"{request}: {options.shadows} shadow models in {time.perf_counter() - start:.1f} s", flush=True)
        for name, unlearner in unlearners.items():
            result = ulira(shadows, unlearner, forget=name != "before")
            row = {"request": request, "method": name, "AUC": result.auc}
            row["AUC interval"] = "{:.3f}-{:.3f}".format(*result.auc_interval)
            for rate in result.tpr:
                row[f"TPR at {rate:.1%}"] = result.tpr[rate]
                row[f"Streisand at {rate:.1%}"] = result.streisand_tpr[rate]
            table.append(row)
            print({k: v if isinstance(v, str) else round(v, 4) for k, v in row.items()}, flush=True)
    print(pd.DataFrame(table).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
