"""What one request did, in numbers: the record a data scientist reads and a privacy officer files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any
from uuid import uuid4

from sk_unlearn.estimators._orders import now
from sk_unlearn.estimators._report_html import shown_report
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators.report_display import UnlearningReportDisplay
from sk_unlearn.receipts.receipt import utc
from sk_unlearn.unlearners.status import Status

__all__ = ["UnlearningReport", "report_of"]

_IN_RECEIPT = "told in receipts_"


@dataclass(frozen=True, repr=False)
class UnlearningReport:
    """The outcome of one ``forget``, ``partial_forget``, ``correct``, ``settle`` or ``retrain``.

    It holds counts, norms and mean losses only, no content of any row.

    Attributes
    ----------
    request : {"forget", "partial_forget", "correct", "settle", "retrain", "replay"}
        What was asked.

    method : str
        Class name of the unlearner.

    n_erased : int
        Stored rows that went (or, for ``correct``, changed), or rows handed in.

    n_trained_erased : int
        Those of them that had entered a gradient. When there are none the parameters stay as they are.

    n_retained : int
        Rows that count after the request.

    parameters_moved : bool
        Whether any parameter changed.

    n_steps, n_products : int
        Steps taken, and Hessian-vector products spent on them.

    step_norm : float
        Euclidean distance the parameters went.

    gradient_norm_before, gradient_norm_after : float
        Norm of the gradient that the deletion brought, before and after: of F - rᵀw at the fitted and at the new
        parameters, with F the risk over the rows that stay and r the gradient that training had left. The same for
        every method, also for one that descends something else; nan where the method does not know the gradient.

    erased_gradient_norm : float
        Norm of the mean loss gradient of the erased rows at the fitted point.

    erased_loss_before, erased_loss_after : float
        Mean loss of the erased rows, with their old content and without the penalty, at the fitted and at the new
        parameters; BatchNorm statistics are those of ``fit`` unless a net was trained anew.

    residual_norm : float
        Norm of the gradient that training itself had left: how far from stationary ``fit`` ended.

    curvature_min, curvature_max : float
        Estimates of the extreme Hessian eigenvalues at the fitted point.

    predicted_decrease, actual_decrease : float
        Of the objective, summed over the steps: by the cubic model and as measured.

    damping : float
        Damping of the last step that was taken.

    solver : str
        Which solver was used.

    seconds : float
        Wall-clock time of the whole request.

    status : Status
        How the algorithm ended, in a word: see :class:`~sk_unlearn.unlearners.Status`.

    stop_reason : str
        Why it ended, and what that did to the mean loss of the erased rows.

    notes : list of str
        What the reader should know, such as held-out rows that early stopping had used.

    certificate : Certificate or None
        What is guaranteed by this request alone, and what that rests on; ``certificate_`` of the estimator speaks of
        all requests together.

    extra : dict
        What the method has to tell beside all this, such as ``memory_forecast``, the bytes that each solver was
        expected to need beyond the model and what was free.

    trace : list of dict
        One record a step.

    requests : list of dict
        The pending requests that were settled, each with ``request_id``, ``received``, ``completed`` and ``deadline``
        (texts in ISO 8601, UTC) and ``late``; empty for what was asked and done in one go.
    request_id : str
        A random UUID, which ``receipts_`` has too. It does not count in comparisons.

    completed : str
        When it was carried out, ISO 8601 in UTC. It does not count in comparisons either.
    """

    request: str
    method: str
    n_erased: int
    n_trained_erased: int
    n_retained: int
    parameters_moved: bool
    status: Status
    stop_reason: str
    seconds: float
    n_steps: int = 0
    n_products: int = 0
    step_norm: float = 0.0
    gradient_norm_before: float = float("nan")
    gradient_norm_after: float = float("nan")
    erased_gradient_norm: float = float("nan")
    erased_loss_before: float = float("nan")
    erased_loss_after: float = float("nan")
    residual_norm: float = float("nan")
    curvature_min: float = float("nan")
    curvature_max: float = float("nan")
    predicted_decrease: float = float("nan")
    actual_decrease: float = float("nan")
    damping: float = float("nan")
    solver: str = ""
    notes: list[str] = field(default_factory=list)
    certificate: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    trace: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    request_id: str = field(default="", compare=False)
    completed: str = field(default="", compare=False)

    @property
    def converged(self) -> bool:
        """Whether the tolerance that the algorithm was given is met: True for the status "converged" and no other.

        It does not say that enough was forgotten. That takes a comparison with retrained models, and no norm of a
        gradient and no loss can replace it.
        """
        return self.status is Status.CONVERGED

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a plain dictionary."""
        return asdict(self) | {"status": str(self.status), "converged": self.converged}

    @property
    def is_brief(self) -> bool:
        """Whether it is one of an earlier request, of which numbers alone are kept: see :meth:`brief`."""
        return self.stop_reason == _IN_RECEIPT

    def brief(self) -> UnlearningReport:
        """Return the numbers alone: what is kept of a report once another request has come.

        Returns
        -------
        report : UnlearningReport
            Without trace, ``extra`` and notes; reason and notes are in ``receipts_``.
        """
        if self.is_brief:
            return self
        return replace(self, trace=[], extra={}, notes=[], stop_reason=_IN_RECEIPT)

    def plot(self, *, ax: Any = None) -> UnlearningReportDisplay:
        """Draw what the request did: losses of the erased rows before and after, and the steps in between.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw the steps, or the losses where no step is recorded; None for a new figure with both.

        Returns
        -------
        display : UnlearningReportDisplay
            Drawn. :class:`~sk_unlearn.inspection.UnlearningReportDisplay` has ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install 'sk-unlearn[plot]'`` brings.

        ValueError
            Where the request did nothing that could be drawn, because no row in it had been trained on.
        """
        return UnlearningReportDisplay.from_report(self, ax=ax)

    def __getstate__(self) -> tuple[Any, ...]:
        # Without names: a history has as many reports as there were requests.
        return tuple(vars(self).values())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Fields are only added at the end: a report of an earlier version has fewer, and takes their defaults.
        self.__dict__.update(zip((each.name for each in fields(self)), state, strict=False))

    def __repr__(self) -> str:
        lines = [
            f"UnlearningReport: {self.request}{self._settled()} by {self.method}, {self.seconds:.3g} s",
            f"  rows       {self.n_erased} erased ({self.n_trained_erased} of them trained on), {self.n_retained} stay",
            f"  status     {self.status}: {self.stop_reason}",
            f"  moved      {self.step_norm:.3g} in {self.n_steps} steps, {self.n_products} curvature products",
            f"  gradient   {self.gradient_norm_before:.3g} -> {self.gradient_norm_after:.3g}",
        ]
        lines += [f"  note       {note}" for note in self.notes[:5]]
        return "\n".join(lines) + "\n  print() shows all"

    def _settled(self) -> str:
        n, n_late = len(self.requests), sum(request["late"] for request in self.requests)
        if not n:
            return ""
        late = f", {n_late} of them late" if n_late else ""
        return f" of {n} pending request{'s' if n > 1 else ''}{late},"

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def _rows(self) -> list[tuple[str, str]]:
        shown = {name: value for name, value in self.to_dict().items() if name not in ("trace", "notes")}
        shown["certificate"] = self.certificate
        return [(name, _text(value)) for name, value in shown.items()]

    def _repr_html_(self) -> str:
        return shown_report(self, self._rows())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report_of(
    request: Request,
    method: str,
    told: Mapping[str, Any],
    *,
    n_retained: int,
    notes: list[str],
    seconds: float,
) -> UnlearningReport:
    """Write the report of a request.

    Parameters
    ----------
    request : Request

    method : str
        Class name of the unlearner.

    told : mapping
        Fields that the solution fills in; empty where there was nothing to solve.

    n_retained : int
        Rows that count afterwards.

    notes : list of str
        Those of the estimator, which come first.

    seconds : float
        Of the whole request.
    """
    unsolved = {
        "status": Status.NOTHING_TO_UNDO,
        "stop_reason": "no row in the request had entered a gradient",
        "parameters_moved": False,
    }
    fields, completed = {**unsolved, **told}, now()
    return UnlearningReport(
        request=request.verb,
        method=method,
        n_erased=request.n_erased,
        n_trained_erased=request.n_trained,
        n_retained=n_retained,
        seconds=seconds,
        request_id=str(uuid4()),
        completed=utc(completed),
        notes=[*notes, *fields.pop("notes", [])],
        requests=[order.told(completed) for order in request.orders],
        **fields,
    )
