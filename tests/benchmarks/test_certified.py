"""Noisy fine-tuning beside its cold control: both starts are what they are called, and the table has every method."""

import numpy as np
import pytest
import torch

from benchmarks import certified
from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.risks.empirical import flat_parameters


def test_a_short_run(tmp_path, capsys):
    records = certified.main(["--quick", "--epsilons", "1,1e14", "--epochs", "1", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    for method in ("nothing", "Retrain()", "Retrain(share=0.1)", "NoisyFineTune(1, n_epochs=1)"):
        assert f"| {method} | " in told
    assert (tmp_path / "certified.json").exists()
    assert {each["seed"] for each in records} == {0, 1}
    by_name = {(each["seed"], each["method"], each["start"]): each for each in records}
    assert len(by_name) == len(records) == 2 * (3 + 2 * 2)
    assert all(by_name[seed, "Retrain()", "warm"]["time"] == 1.0 for seed in (0, 1))
    # Without noise the start is seen, and with much of it it is not.
    gaps = {
        epsilon: np.mean([
            by_name[seed, f"NoisyFineTune({epsilon}, n_epochs=1)", "warm"]["retained"]
            - by_name[seed, f"NoisyFineTune({epsilon}, n_epochs=1)", "cold"]["retained"] for seed in (0, 1)
        ])
        for epsilon in ("1", "1e+14")
    }  # fmt: skip
    assert abs(gaps["1"]) < 0.05 < gaps["1e+14"]


def test_a_cold_start_is_at_the_initial_weights():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(2, size=60)
    fitted = UnlearnableClassifier(MLPNetClassifier(max_epochs=3), random_state=0).fit(X, y)
    before = flat_parameters(fitted.net_).clone()
    cold = certified.as_at_the_start(fitted)
    initial = fitted.unlearning_state_.start.parameters
    assert torch.equal(flat_parameters(cold.net_), initial.to(before))
    assert torch.equal(flat_parameters(fitted.net_), before)
    assert float((initial - before).norm()) > 0


def test_standard_errors_need_two_seeds():
    with pytest.raises(SystemExit):
        certified.main(["--seeds", "1"])
