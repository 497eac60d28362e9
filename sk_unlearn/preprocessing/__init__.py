"""Fitted scikit-learn transformers that give up rows, as if they had been fitted without them."""

from sk_unlearn.preprocessing.memory import Forgotten, Memory, remember

__all__ = ["Forgotten", "Memory", "remember"]
