"""How nets are trained here: which rows entered a gradient, who watched, and many nets at once."""

from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.recorder import TrainingRecorder

__all__ = ["Trained", "TrainingRecorder"]
