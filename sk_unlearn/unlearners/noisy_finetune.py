"""Fine-tuning whose noise hides where it began (Koloskova et al. 2025): a certificate for any network."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor

from sk_unlearn.privacy import Assumption, Certificate, NoisySteps, gaussian_sigma
from sk_unlearn.privacy.certificates import SECRET_SEED
from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.rows.parts import for_net
from sk_unlearn.training.finite import TrainingDivergedError
from sk_unlearn.training.ledger import Trained
from sk_unlearn.unlearners._minibatch import annealed, training_batch_size
from sk_unlearn.unlearners._watch import Watch, stored_part
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.finetune import epochs_trace
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._float64 import double
from sk_unlearn.utils._random import standard_normal, untouched_generators

__all__ = ["NoisyFineTune"]

# Retained rows on which the run and its control are compared.
_COMPARED_ROWS = 4096


class NoisyFineTune(Unlearner):
    r"""Go back to near the initial weights, take noisy clipped steps on the retained rows, then train on them.

    The fitted weights are projected to a ball around the initial ones, :math:`x_0 = \Pi_{C_0}(w - w_{init})`. Then come
    T steps

    .. math:: x_{t+1} = x_t - \gamma\,(\Pi_{C_1}(g_t) + \lambda x_t) + N(0, \sigma^2 I),

    :math:`g_t` the gradient over a batch of retained rows, and then any training on the retained rows without noise,
    which cannot bring back what is gone. The noise is as large as :math:`(\epsilon, \delta)` needs; see
    :class:`sk_unlearn.privacy.NoisySteps`. Nothing is assumed of the network, the loss or the training before, and one
    run hides all earlier requests with the present one.

    **What it is worth.** The same noise hides what the network had learnt from the *retained* rows. For every event,
    such as a good accuracy,

    .. math:: P(\text{good} \mid \text{warm}) \le \Phi(\Phi^{-1}(P(\text{good} \mid \text{cold})) + \mu),

    where *cold* is the same run from the initial weights, which are all that it then knows. So this is in essence noisy
    retraining, and :class:`Retrain` with as many epochs has no noise, no ε, and no need of a secret seed. The report
    therefore tells how a cold run comes off. Use it where a guarantee of this form is asked for.

    Parameters
    ----------
    epsilon, delta : float, default=8.0 and 1e-5
        The guarantee, of the last model for the rows of all requests so far. It is two-sided, and holds beside the same
        run after a training that never saw the rows.

    radius : "auto" or float, default="auto"
        :math:`C_0`. "auto" takes what makes all noise together as large as the initial weights (its standard deviation
        their root mean square), with ``clip="auto"``.

    clip : "auto" or float, default="auto"
        :math:`C_1`. "auto" takes what lets all steps together go as far as what is left of ``radius`` after them.

    learning_rate : float, default=0.1
        :math:`\gamma`, of the noisy steps. The training after them has the net's own.

    weight_decay : float, default=0.0
        :math:`\lambda`, which pulls the noisy steps towards the initial weights; below 1 / ``learning_rate``.

    n_steps : int, default=20
        T. Each reads one batch.

    n_epochs : int, default=10
        Passes over the retained rows after the noisy steps, with the net's own optimiser, batch size and loss, the rate
        annealed to zero along a cosine. With 0 there is no training, and BatchNorm layers take their statistics over
        the retained rows.

    cold_control : bool, default=True
        Run it once more from the initial weights, with other noise, and tell in ``extra`` of the report how loss and
        accuracy on retained rows compare. It doubles the cost of a request.

    Notes
    -----
    Buffers (the statistics of BatchNorm layers among them) and frozen parameters are those of a net built anew, and
    optimisers begin without state. Points on the way are not kept, and neither is any number that would tell of them,
    for only the last point is covered. The guarantee is of the model: reports tell losses of erased rows.

    The initial weights must owe nothing to rows that are to be forgotten. They are recorded by ``fit`` with
    ``keep_initial=True``.

    References
    ----------
    .. [1] Koloskova, Allouah, Jha, Guerraoui and Koyejo, "Certified unlearning for neural networks", ICML 2025. The
       account is that of :class:`sk_unlearn.privacy.NoisySteps`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import NoisyFineTune
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=NoisyFineTune(epsilon=8.0), random_state=0).fit(X, y)
    >>> certificate = est.forget(X[:5]).certificate_
    >>> certificate.epsilon, certificate.delta
    (8.0, 1e-05)
    """

    _parameter_constraints = {  # noqa: RUF012
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "radius": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "clip": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "cold_control": ["boolean"],
    }

    def __init__(
        self,
        epsilon: float = 8.0,
        delta: float = 1e-5,
        *,
        radius: Any = "auto",
        clip: Any = "auto",
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        n_steps: int = 20,
        n_epochs: int = 10,
        cold_control: bool = True,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.radius = radius
        self.clip = clip
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.cold_control = cold_control

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        # A run has noise of its own, so that two requests never come to what one does.
        tags.aims_at_retrained = False
        tags.extra = ("mu", "retained_loss", "retained_accuracy")
        if self.cold_control:
            tags.extra += ("cold_retained_loss", "cold_retained_accuracy")
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem.

        Parameters
        ----------
        problem : UnlearningProblem
            With the initial weights.

        Returns
        -------
        result : UnlearningResult
            With a certificate. Its status is ``completed``, or ``harmed_retained`` where the loss on retained rows rose
            markedly.

        Raises
        ------
        ValueError
            When the initial weights are not known, or are all zero and say nothing of how large ``radius`` may be.
        """
        self._validate_params()
        centre = _centre(problem)
        steps = self._steps(centre)
        sigma = steps.sigma(float(self.epsilon), float(self.delta))
        # What is read on the way must not depend on the erased rows either, or the cold control would tell of them.
        blank = problem.retrain(start=centre.to(problem.parameters), epochs=0)
        warm = _projected(double(problem.parameters) - centre, steps.radius)
        trained = self._after(problem, _run(problem, blank, centre, warm, steps, sigma))
        rows = stored_part(problem.retained).sample(_COMPARED_ROWS, problem.rng)
        extra = {"mu": steps.mu(sigma), **_measures(problem, trained, rows)}
        notes = []
        if self.cold_control:
            cold = self._cold(problem, blank, centre, steps, sigma, rows)
            extra |= {f"cold_{name}": value for name, value in cold.items()}
            notes.append(_compared(extra))
        else:
            notes.append(_NO_CONTROL)
        reason = f"{self.n_steps} steps with noise of standard deviation {sigma:.3g}, then {self.n_epochs} epochs"
        w = flat_parameters(trained.net)
        watch = Watch(problem, after=_over_retained(problem, trained.net))
        return UnlearningResult(
            w,
            *watch.verdict(w, Status.COMPLETED, reason),
            trace=epochs_trace(problem, trained.net, self.n_epochs),
            trained=trained,
            certificate=self._certificate(steps, sigma, blank),
            notes=notes,
            extra=extra,
        )

    def _steps(self, centre: Tensor) -> NoisySteps:
        """Return the run, with the numbers that "auto" stands for: they come of settings and initial weights alone."""
        rate, decay, n = float(self.learning_rate), float(self.weight_decay), int(self.n_steps)
        if rate * decay >= 1:
            raise ValueError(
                f"learning_rate * weight_decay of NoisyFineTune must be below 1, got {rate * decay:.6g}: nothing of "
                "the fitted weights would be left after a step. Use Retrain() for that."
            )
        unit = NoisySteps(0.0, 0.0, rate, n, decay)
        radius = self.radius
        if radius == "auto":
            size = float(centre.square().mean().sqrt())
            if size == 0:
                raise ValueError(
                    'radius="auto" of NoisyFineTune goes by the size of the initial weights, and all of them are zero; '
                    "give a number."
                )
            mu = 1 / gaussian_sigma(1.0, float(self.epsilon), float(self.delta))
            # With noise as large as the initial weights one can still train well. The distance of two runs is mu times
            # that, and half of it is for where they began.
            radius = mu * size / (4 * unit.start_left)
        clip = radius * unit.start_left / unit.reach if self.clip == "auto" else self.clip
        steps = NoisySteps(float(radius), float(clip), rate, n, decay)
        if steps.distance == 0:
            raise ValueError('radius=0 of NoisyFineTune leaves clip="auto" nothing; give clip a number.')
        return steps

    def _after(self, problem: UnlearningProblem, w: Tensor) -> Trained:
        """Train on the retained rows from w, in a net that knows nothing but w and these rows."""
        options: dict[str, Any] = {"callbacks": [annealed(problem, self.n_epochs)]} if self.n_epochs else {}
        return problem.retrain(start=w, epochs=self.n_epochs, **options)

    def _cold(
        self,
        problem: UnlearningProblem,
        blank: Trained,
        centre: Tensor,
        steps: NoisySteps,
        sigma: float,
        rows: Any,
    ) -> dict[str, float]:
        """Return what the same run comes to from the initial weights.

        Its noise is its own. It then tells nothing of the other run, and so nothing of the erased rows.
        """
        try:
            trained = self._after(problem, _run(problem, blank, centre, torch.zeros_like(centre), steps, sigma))
        except TrainingDivergedError:
            return {"retained_loss": math.inf, "retained_accuracy": math.nan}
        return _measures(problem, trained, rows)

    def _certificate(self, steps: NoisySteps, sigma: float, blank: Trained) -> Certificate:
        total = sigma * steps.spread
        assumptions = [
            Assumption(
                "the run began within radius of the initial weights", True, f"C0 = {steps.radius:.3g}, projected"
            ),
            Assumption(
                "no gradient was longer than clip, and noise followed each step", True,
                f"C1 = {steps.clip:.3g}, sigma = {sigma:.3g} in each of {steps.n_steps}",
            ),
            Assumption("nothing is known of the points on the way", True, "not kept; buffers were taken afterwards"),
            Assumption("the scale of the noise knows nothing of the rows", True, "of settings and initial weights"),
            *blank.basis,
            Assumption("the settings were chosen without the erased rows", None),
            Assumption("float64 is as good as real numbers, and the generator as good as chance", None),
            Assumption(
                "no other model was given away that has the same noise", None,
                "as that of a copy which was asked something else has",
            ),
            SECRET_SEED,
        ]  # fmt: skip
        return Certificate(
            "noisy fine-tuning (Koloskova et al. 2025)",
            steps.distance,
            float(self.epsilon),
            float(self.delta),
            total,
            "steps",
            assumptions=assumptions,
            sequence_epsilon=float(self.epsilon),
        )


def _centre(problem: UnlearningProblem) -> Tensor:
    if problem.start is None:
        raise ValueError(
            "NoisyFineTune goes back to the initial weights, and they are not known: fit with keep_initial=True (or "
            "give initial_parameters to from_fitted), or use Retrain()."
        )
    return double(problem.start.parameters.to(problem.parameters.device))


def _projected(x: Tensor, radius: float) -> Tensor:
    norm = float(x.norm())
    return x if norm <= radius else x * (radius / norm)


def _run(
    problem: UnlearningProblem, blank: Trained, centre: Tensor, x: Tensor, steps: NoisySteps, sigma: float
) -> Tensor:
    """Take the noisy steps from centre + x, and return where they end, as flat parameters of the net.

    In float64, so that the norms that the account rests on hold to its last digits.
    """
    retained, size = _over_retained(problem, blank.net), training_batch_size(problem)
    shrinks = steps.learning_rate * steps.weight_decay
    for _ in range(steps.n_steps):
        rows = retained.sample(size, problem.rng)
        gradient = double(retained.gradient((centre + x).to(problem.parameters), rows))
        norm = gradient.norm()
        shortened = gradient * (steps.clip / norm).clamp_max(1.0)
        # Any vector that is short enough will do for the account, and zero leads nowhere. Decided on the device.
        gradient = torch.where(norm.isfinite(), torch.where(norm <= steps.clip, gradient, shortened), 0.0)
        x = (1 - shrinks) * x - steps.learning_rate * gradient + sigma * standard_normal(x, problem.rng)
    return (centre + x).to(problem.parameters)


def _over_retained(problem: UnlearningProblem, net: NeuralNet) -> EmpiricalRisk | CombinedRisk:
    """Return the risk of another net over the rows that count after the request, and over no other."""
    base = stored_part(problem.retained).of_net(net)
    parts = [part for share, part in problem.retained.parts[1:] if share > 0]
    added = [part.of_net(net) for part in parts if isinstance(part, EmpiricalRisk)]
    return CombinedRisk(base, added=added) if added else base


def _measures(problem: UnlearningProblem, trained: Trained, rows: Any) -> dict[str, float]:
    """Return loss and accuracy of a net on some stored rows that stay; no accuracy (nan) where it is no classifier."""
    risk, w = stored_part(problem.retained).of_net(trained.net), flat_parameters(trained.net)
    loss, accuracy = risk.without_penalty(w, risk.value(w, rows)), math.nan
    if isinstance(trained.net, NeuralNetClassifier | NeuralNetBinaryClassifier) and len(rows):
        with untouched_generators():  # a loader draws a seed, whether or not it needs one
            predicted = trained.net.predict(for_net(risk.X[rows]))
        accuracy = float(np.mean(predicted == risk.targets(rows)))
    return {"retained_loss": loss, "retained_accuracy": accuracy}


def _compared(extra: dict[str, float]) -> str:
    """Say how the run and its control compare."""
    told = [f"{extra['retained_loss']:.3g} (from the initial weights alone: {extra['cold_retained_loss']:.3g})"]
    if not math.isnan(extra["retained_accuracy"]):
        cold = extra["cold_retained_accuracy"]
        told.append(f"accuracy {extra['retained_accuracy']:.3f} (from the initial weights alone: {cold:.3f})")
    return (
        f"On retained rows the loss is {' and the '.join(told)}. The difference is all that the fitted weights were "
        "good for under this noise; Retrain(share=...) is exact at a like cost."
    )


_NO_CONTROL = (
    "The same run from the initial weights was not made (cold_control=False), so that nobody knows whether the fitted "
    "weights were of any use under this noise. It costs as much as the request."
)
