"""Shared by all tests: one thread a process (the suite runs in parallel), a seed, and the gpu marker."""

import gc
import os

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import settings

torch.set_num_threads(1)
# `torch.manual_seed`, which every fit and request calls, seeds such devices too, and where there is none it writes down
# the whole stack for the day one comes.
for device in (torch.cuda, torch.xpu):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None
# Machines are noisy: how long one example takes says nothing about whether it is right.
settings.register_profile("default-without-deadline", deadline=None)
settings.load_profile("default-without-deadline")

# Modules that tests hand over ready-made take their weights from the global generators. Another seed is another
# suite: every test should pass with any.
SEED = int(os.environ.get("SK_UNLEARN_TESTS_SEED", "0"))
torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(1000 + SEED)  # noqa: NPY002 -- the legacy generator is the global one; far from the seeds in tests
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def configured():
    """Undo what a signal leaves of scikit-learn's configuration: it may strike while a fit has changed that."""
    config = sklearn.get_config()
    yield
    sklearn.set_config(**config)


def pytest_collection_finish():
    """Look through what is there for good, such as thousands of tests, in no later collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
