"""What a notebook shows of an estimator: scikit-learn's diagram, and below it what has been learnt and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from sk_unlearn.estimators._certificate import latest_certificate
from sk_unlearn.estimators._report_html import seconds_of
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.utils._cards import Box, Paragraph, Part, Table, card, counted, moment

__all__ = ["InNotebookMixin", "fitted_card", "requests_table"]

# So many requests are shown; `unlearning_history_` has all.
_REQUESTS = 5
# Attributes whose content is nobody's business, of which scikit-learn's diagram would show a part.
_SECRET = ("receipt_key_",)


class InNotebookMixin:
    """Add what has been learnt and forgotten to scikit-learn's diagram. To be named before BaseEstimator.

    It looks at counts, reports and marks only: neither at rows nor at identifiers, and computes nothing over rows.
    """

    def _card(self) -> str:
        """Return what is shown below the diagram."""
        return fitted_card(self)

    # scikit-learn shows either of these two, and has had them alike since 1.6.
    def _repr_html_inner(self) -> str:
        diagram: str = super()._repr_html_inner()  # type: ignore[misc]
        return diagram + self._card()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        shown: dict[str, Any] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in shown:  # not where set_config(display="text") asks for none
            shown["text/html"] += self._card()
        return shown

    def _get_fitted_attr_html(self, *args: Any, **kwargs: Any) -> Any:
        # From 1.9 on the diagram lists what was fitted, with the beginning of each value.
        shown = super()._get_fitted_attr_html(*args, **kwargs)  # type: ignore[misc]
        for name in _SECRET:
            shown.pop(name, None)
        return shown


def fitted_card(estimator: Any, model: Any = None) -> str:
    """Return what was learnt and forgotten, as a part of a page.

    Parameters
    ----------
    estimator : estimator
        What is shown.
    model : estimator or None
        What in it holds a net and rows, such as the last step of a pipeline; None for the estimator itself.
    """
    name, model = type(estimator).__name__, estimator if model is None else model
    if not estimator.__sklearn_is_fitted__():
        return card(name, "not fitted: there is nothing to forget yet")
    shards = [each for each in getattr(model, "estimators_", [model]) if each is not None]
    history: list[UnlearningReport] = model.unlearning_history_
    parts: list[Part] = [requests_table(history)] if history else []
    certificate = _certificate(model, history)
    if certificate:
        parts.append(Paragraph(f"Certificate: {certificate}"))
    advice = model.retrain_recommended_
    boxes = [Box("Retraining is recommended: call retrain()", _sentence(advice.reason), "open")] if advice else []
    pending = model.pending_
    overdue = sum(request.overdue for request in pending)
    if overdue:
        told = f"{counted(overdue, 'pending request')} waited beyond the deadline of one month."
        boxes.append(Box("Pending requests are overdue: call settle()", told, "bad"))
    n_requests = counted(len(history), "request") + " so far" if history else "no request so far"
    facts = [*_facts_of_nets(model, shards), *_facts_of_rows(shards, pending)]
    return card(name, f"fitted, {n_requests}", boxes=boxes, facts=facts, parts=parts)


def requests_table(history: Sequence[UnlearningReport]) -> Table:
    """Return the newest requests as a table, the last one first."""
    rows = []
    for each in islice(reversed(history), _REQUESTS):
        status = str(each.status).replace("_", " ")
        rows.append([moment(each.completed), each.request, f"{each.n_erased:,}", status, seconds_of(each)])
    caption = "Requests" if len(history) <= _REQUESTS else f"The last {_REQUESTS} of {len(history):,} requests"
    return Table(["when", "what", "rows", "status", "took"], rows, caption, numbers={2, 4})


def _facts_of_nets(model: Any, shards: Sequence[Any]) -> list[tuple[object, str]]:
    module = shards[0].net_.module_
    n_parameters = sum(sum(each.numel() for each in shard.net_.module_.parameters()) for shard in shards)
    told = "parameters"
    if hasattr(model, "estimators_"):
        told += f" in {counted(len(shards), 'shard')}"
    return [(type(module).__name__, "net"), (f"{n_parameters:,}", told)]


def _facts_of_rows(shards: Sequence[Any], pending: Sequence[Any]) -> list[tuple[object, str]]:
    stored = [shard.training_set_ for shard in shards if hasattr(shard, "training_set_")]
    if stored:
        n, n_trained = sum(map(len, stored)), sum(rows.n_trained for rows in stored)
        facts: list[tuple[object, str]] = [(f"{n_trained:,}", "rows trained on")]
        if n > n_trained:
            facts.append((f"{n - n_trained:,}", "rows held out or without weight"))
    else:
        anchors = [shard.unlearning_state_.anchor for shard in shards]
        facts = [(f"{sum(anchor.n_rows for anchor in anchors if anchor is not None):,}", "rows count, none is stored")]
    if pending:
        n_rows = sum(request.n_rows for request in pending)
        first = min(request.deadline for request in pending)
        told = f"rows of {counted(len(pending), 'pending request')}, the first due {first:%Y-%m-%d}"
        facts.append((f"{n_rows:,}", told))
    return facts


def _certificate(model: Any, history: Sequence[UnlearningReport]) -> str:
    """Return the guarantee in a line; empty where there is none."""
    asked = [report for report in history if report.n_trained_erased or report.certificate is not None]
    # Shards are exact together where each is, and nothing else is said of all of them.
    if hasattr(model, "estimators_") and any(each.certificate is None for each in asked):
        return ""
    try:
        return latest_certificate(asked, None).headline
    except AttributeError:  # of one net it would say why, for which it needs the rows
        return ""


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}{'' if reason.endswith('.') else '.'}"
