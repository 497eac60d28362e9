"""The devices that a test of this folder runs on: the pretended one always, a real one where there is one."""

from contextlib import nullcontext

import pytest

from tests.devices._accelerator import Accelerator


class Device:
    """Where estimators are put with ``device="cuda"``, and how far what comes out may be from the processor's."""

    def __init__(self, pretended):
        self.pretended, self.same_noise = pretended, True
        self.rtol, self.atol = (0, 0) if pretended else (1e-4, 1e-6)

    def __call__(self):
        """The context in which the device is there."""
        return Accelerator() if self.pretended else nullcontext()


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def on_device(request):
    return Device(request.param == "pretended")
