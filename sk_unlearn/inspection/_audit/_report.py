"""The report of an audit: an object to print, to show in a notebook and to save."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sk_unlearn.inspection._audit._calibration import Calibration
from sk_unlearn.inspection._audit._compliance import NOT_LEGAL_ADVICE, clauses
from sk_unlearn.inspection._audit._html import fragment, page

__all__ = ["AuditReport"]


@dataclass(frozen=True)
class AuditReport:
    """What an audit found; see `audit`, which makes it.

    It holds aggregates and, for the pictures, the losses of the erased rows; it holds no row and no model. Files that
    it saves hold aggregates alone.

    Attributes
    ----------
    verdict : {"closer", "within", "undecided", "outputs_only", "not_yet", "over_forgotten"}
        The outcome; see `audit`.

    headline : str
        The same in a sentence.

    reasons : list of str
        What the verdict rests on.

    calibration : Calibration
        How many retrained models pass by the same rules, fail or are not decided (``n_passed``, ``n_failed``,
        ``n_undecided``), each judged by the others, and the verdict on the model ``before`` the request, if given.

    complete : bool
        False if the audit was interrupted, and rests on fewer references than asked for.

    measures : DataFrame
        A row for each measure, set of rows and kind of model, with the columns of :meth:`to_frame`.

    request : UnlearningReport or None
        The estimator's own record of its last request.

    n_requests : int
        Requests since ``fit``.

    certificate : Certificate or None
        What is guaranteed, if anything.

    no_certificate : str
        Why nothing is guaranteed; empty if something is.

    n_erased, n_retained, n_test : int
        Numbers of rows.

    n_still_stored : int or None
        Erased rows that the estimator still holds; None where it holds no rows itself.

    assumptions : list of str
        What was taken for granted, or could not be done.

    seeds : dict
        Of the audit and of each reference.

    versions : dict of str to str
        Of the packages.

    seconds : dict of str to float
        Of forgetting, of retraining one model, and of the audit.

    created : str
        Date and time, UTC.

    model : str
        The estimator and its settings.

    losses : dict of str to ndarray
        Losses of erased rows, and of those that the attack compared with, for the pictures.

    attacks : dict of str to AttackResult
        By kind of model, for the pictures.
    """

    verdict: str
    headline: str
    reasons: list[str]
    calibration: Calibration
    complete: bool
    measures: pd.DataFrame = field(repr=False)
    request: Any = field(repr=False)
    n_requests: int
    certificate: Any = field(repr=False)
    no_certificate: str = field(repr=False)
    n_erased: int
    n_retained: int
    n_test: int
    n_still_stored: int | None
    assumptions: list[str] = field(repr=False)
    seeds: dict[str, Any] = field(repr=False)
    versions: dict[str, str] = field(repr=False)
    seconds: dict[str, float] = field(repr=False)
    created: str
    model: str = field(repr=False)
    losses: dict[str, Any] = field(repr=False)
    attacks: dict[str, Any] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the measures.

        Returns
        -------
        DataFrame
            Columns "measure", "rows" (erased, retained, test, all, or some of these), "model" (before, after or
            retrained), "value", "low" and "high". For retrained models the value is the mean over them, or over their
            pairs, and the bounds are the smallest and the largest; for distances, "attack AUC" and what is found inside
            the network or around the erased rows the bounds are the interval in which one more retrained model is
            expected. For the other models they are a 95 % interval, or NaN if there is none.
        """
        return self.measures.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` saves, as a dictionary of plain values."""
        kept = ["verdict", "headline", "reasons", "complete", "created", "model", "n_requests"]
        kept += ["n_erased", "n_retained", "n_test", "n_still_stored", "no_certificate", "assumptions"]
        plain = {name: getattr(self, name) for name in (*kept, "seeds", "versions", "seconds")}
        plain["calibration"] = self.calibration._asdict()
        plain["measures"] = self.measures.to_dict("records")
        plain["request"] = None if self.request is None else self.request.to_dict() | {"certificate": None}
        plain["certificate"] = None if self.certificate is None else self.certificate.to_dict()
        plain["compliance"] = [clause._asdict() for clause in clauses(self)] + [{"note": NOT_LEGAL_ADVICE}]
        cleaned: dict[str, Any] = _jsonable(plain)
        return cleaned

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as JSON, and save it.

        Parameters
        ----------
        path : str or Path, default=None
            Where to save it; None saves nothing.

        Returns
        -------
        str
            Numbers that are not finite are null.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return _saved(text, path)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one page that needs no network and prints well, and save it.

        Parameters
        ----------
        path : str or Path, default=None
            Where to save it; None saves nothing.

        Returns
        -------
        str
            A complete HTML document. The pictures are in it; without matplotlib there are none.
        """
        return _saved(page(self), path)

    def _repr_html_(self) -> str:
        return fragment(self)

    def __str__(self) -> str:
        lines = ["Audit of a deletion", "=" * 19, self.headline]
        if not self.complete:
            lines.append("INCOMPLETE: interrupted before all references were retrained.")
        table = _wide(self.measures).to_string(na_rep="-", float_format="{:.4g}".format)
        lines += ["", *(f"- {reason}" for reason in self.reasons), "", table]
        lines += ["", f"certificate: {self.certificate or self.no_certificate}"]
        times = (f"{name} {value:.3g} s" for name, value in self.seconds.items() if np.isfinite(value))
        lines += [f"seconds: {', '.join(times)}", "", "What was assumed:"]
        return "\n".join(lines + [f"- {assumption}" for assumption in self.assumptions])


def _wide(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the values with one column for each kind of model, in the order of the measures."""
    wide = measures.pivot(index=["measure", "rows"], columns="model", values="value")
    wide = wide.reindex(pd.MultiIndex.from_frame(measures[["measure", "rows"]].drop_duplicates()))
    return wide[[name for name in ("before", "after", "retrained") if name in wide]]


def _saved(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
