"""Whether parameters changed while no recorded batch was out."""

from __future__ import annotations

from skorch import NeuralNet
from skorch.callbacks import ParamMapper

from sk_unlearn.training._fingerprint import fingerprint

__all__ = ["ParameterLog"]


class ParameterLog:
    """Compares parameters wherever a pass over recorded training batches begins or has ended, and when training ends.

    Whatever happens during a pass is put down to its rows. Outside a pass, parameters may only become what they have
    been at the start or after some pass: that is what restoring the best weights does. Anything else, such as a polish
    over all rows or an average of weights, is a change that may have come from any row.

    Parameters
    ----------
    net : skorch.NeuralNet
        About to be trained.

    Attributes
    ----------
    changed_elsewhere : bool
        Whether parameters changed outside a pass.
    """

    def __init__(self, net: NeuralNet) -> None:
        self._net = net
        self._n_open = 0
        self._known = {self._present()}
        self.changed_elsewhere: bool = False

    def begin_pass(self) -> None:
        """Compare, then put what follows down to the rows of the pass."""
        # skorch's Initializer and its kin set parameters between passes, by a rule that knows no rows.
        mapped = any(isinstance(callback, ParamMapper) for _, callback in self._net.callbacks_)
        if not self._n_open and not mapped:
            self.compare()
        self._n_open += 1

    def end_pass(self) -> None:
        """Take the parameters as the pass left them."""
        self._n_open = max(self._n_open - 1, 0)
        self._known.add(self._present())

    def interrupt(self) -> None:
        """Take the parameters as a pass left them that was broken off, if there was one."""
        if self._n_open:
            self.end_pass()

    def compare(self) -> None:
        """Note whether the parameters are none that were there before."""
        now = self._present()
        self.changed_elsewhere |= now not in self._known
        self._known.add(now)

    def _present(self) -> bytes:
        return fingerprint(parameter for _, parameter in self._net.get_all_learnable_params())
