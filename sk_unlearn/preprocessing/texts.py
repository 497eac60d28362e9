"""Vocabularies and document counts."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.utils import check_array

from sk_unlearn.preprocessing.changes import Change
from sk_unlearn.preprocessing.nodes import Node, Outcome, Request, reading, select_inputs

__all__ = ["Frequencies", "Vocabulary"]


def _idf(step: Any, n_documents: int, frequencies: np.ndarray, dtype: Any) -> np.ndarray:
    """Return the weights of terms as scikit-learn computes them."""
    smooth = int(step.smooth_idf)
    with np.errstate(divide="ignore"):
        return np.log(np.full(len(frequencies), n_documents + smooth, dtype) / (frequencies.astype(dtype) + smooth)) + 1


def _reweighted(columns: np.ndarray, old: np.ndarray, new: np.ndarray, norm: str | None) -> Change:
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = new.astype(np.float64) / old[columns].astype(np.float64)
    # A term of no document has no entry to scale.
    return Change(columns, np.where(np.isfinite(scale), scale, 1.0), np.zeros(len(columns)), norm)


class Frequencies(Node):
    """In how many documents each term is, for ``TfidfTransformer``."""

    n_documents: int
    frequencies: np.ndarray

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """See ``Node``."""
        node = cls(names)
        node.n_documents, node.frequencies = _document_frequencies(X)
        return node

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        if request.moved:
            return self.refitted(steps, request)
        (step,) = steps
        with reading(self.names):
            n, frequencies = _document_frequencies(request.X)
        columns = request.sources(len(frequencies))
        node = Frequencies(self.names)
        node.n_documents = self.n_documents + request.sign * n
        node.frequencies = (self.frequencies + request.sign * frequencies)[columns]
        new = select_inputs(step, columns)
        change = Change.pick(columns, None if request.columns is None else step.norm)
        if step.use_idf:
            new.idf_ = _idf(step, node.n_documents, node.frequencies, step.idf_.dtype)
            change = _reweighted(columns, step.idf_, new.idf_, step.norm)
        return Outcome([new], node, len(frequencies), columns, change)


def _document_frequencies(X: Any) -> tuple[int, np.ndarray]:
    X = check_array(X, accept_sparse=("csr", "csc"), dtype=None)
    X = X.tocsr() if sparse.issparse(X) else sparse.csr_array(X)
    return X.shape[0], np.bincount(X.indices, minlength=X.shape[1])


class Vocabulary(Node):
    """In how many documents each term is and how often it is used at all, for text vectorizers.

    All terms are counted, for one that was too frequent may be in use once documents are gone.
    """

    n_documents: int
    documents: Counter[str]
    uses: Counter[str]

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """See ``Node``."""
        node = cls(names)
        node.n_documents, node.documents, node.uses = _counted(steps[0], X)
        return node

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        if request.moved:
            return self.refitted(steps, request)
        (old,) = steps
        with reading(self.names):
            n, documents, uses = _counted(old, request.X)
        node = Vocabulary(self.names)
        node.n_documents = self.n_documents + request.sign * n
        try:
            node.documents = _combined(self.documents, documents, request.sign)
            node.uses = _combined(self.uses, uses, request.sign)
        except ValueError as error:
            raise ValueError(f"{self.names[0]}: {error}; pass rows that were among those of fit.") from None
        new = copy.copy(old)
        vars(new).pop("stop_words_", None)  # terms that were left out, in older releases
        if not old.fixed_vocabulary_:
            new.vocabulary_ = node._vocabulary(old)
        terms = sorted(new.vocabulary_, key=new.vocabulary_.get)
        columns = np.array([old.vocabulary_.get(term, -1) for term in terms], dtype=np.intp)
        change = Change.pick(columns)
        if isinstance(old, TfidfVectorizer):
            change = node._weigh(old, new, terms, columns)
        return Outcome([new], node, len(old.vocabulary_), columns, None if (columns < 0).any() else change)

    def _weigh(self, old: TfidfVectorizer, new: TfidfVectorizer, terms: list[str], columns: np.ndarray) -> Change:
        """Put the weights of terms into the new step, and return what they change in outputs."""
        new._tfidf = copy.copy(old._tfidf)
        new._tfidf.n_features_in_ = len(terms)
        if not old.use_idf:
            return Change.pick(columns, old.norm)
        frequencies = np.array([self.documents.get(term, 0) for term in terms])
        new._tfidf.idf_ = _idf(old, self.n_documents, frequencies, old.idf_.dtype)
        return _reweighted(columns, old.idf_, new._tfidf.idf_, old.norm)

    def _vocabulary(self, step: CountVectorizer) -> dict[str, int]:
        """Return the terms in use and their columns, as scikit-learn chooses them."""
        n, low, high = self.n_documents, step.min_df, step.max_df
        terms = sorted(self.documents)
        frequencies = np.array([self.documents[term] for term in terms])
        mask = frequencies <= (high if isinstance(high, Integral) else high * n)
        mask &= frequencies >= (low if isinstance(low, Integral) else low * n)
        if step.max_features is not None and mask.sum() > step.max_features:
            dtype = np.result_type(step.dtype, np.int64) if np.dtype(step.dtype).kind in "iub" else step.dtype
            uses = np.array([self.uses[term] for term in terms]).astype(dtype)
            chosen = np.flatnonzero(mask)[(-uses[mask]).argsort()[: step.max_features]]
            mask = np.zeros(len(terms), dtype=bool)
            mask[chosen] = True
        if not mask.any():
            raise ValueError(f"{self.names[0]}: no term is left in the rows that stay; lower min_df or raise max_df.")
        return {terms[place]: k for k, place in enumerate(np.flatnonzero(mask))}


def _combined(counts: Counter[str], others: Counter[str], sign: int) -> Counter[str]:
    result = counts.copy()
    for term, count in others.items():
        result[term] += sign * count
        if result[term] < 0:
            raise ValueError("a word of these texts is not among those that it was fitted on")
        if not result[term]:
            del result[term]
    return result


def _counted(step: CountVectorizer, texts: Iterable[Any]) -> tuple[int, Counter[str], Counter[str]]:
    analyze = step.build_analyzer()
    documents: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    counts_uses = step.max_features is not None  # which alone asks for them
    n = 0
    for text in texts:
        of_text = Counter(analyze(text))
        documents.update(of_text.keys())
        if counts_uses:
            uses.update(of_text.keys() if step.binary else of_text)
        n += 1
    # In order, so that sorting what is left of them later costs next to nothing.
    return n, Counter(dict(sorted(documents.items()))), uses
