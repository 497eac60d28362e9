"""Search for the unlearner that comes closest to retraining."""

from sk_unlearn.model_selection._search import ForgetSearchCV

__all__ = ["ForgetSearchCV"]
