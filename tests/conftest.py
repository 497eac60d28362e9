"""Shared by all tests: one thread a process (the suite runs in parallel) and the gpu marker."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Machines are noisy: how long one example takes says nothing about whether it is right.
settings.register_profile("default-without-deadline", deadline=None)
settings.load_profile("default-without-deadline")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
