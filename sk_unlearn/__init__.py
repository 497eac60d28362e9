"""Machine unlearning for neural networks, the scikit-learn way: fit, then forget."""

from sk_unlearn._version import __version__

__all__ = ["__version__"]
