import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import make_pipeline

from sk_unlearn.preprocessing import remember
from tests.preprocessing._refit import assert_forgets, assert_same

WORDS = [f"word{k}" for k in range(40)]
GROUPS = [[0], [3, 4, 5], [50], [51, 52, 53], [7]]


def texts(rng, n=100):
    shares = 1 / np.arange(1, 41)
    result = [" ".join(rng.choice(WORDS, rng.integers(1, 12), p=shares / shares.sum())) for _ in range(n)]
    result[0] += " Rumpelstilzchen rumpelstilzchen"
    result[4] = "nothing that others say"
    return result


@pytest.mark.parametrize(
    "step",
    [
        CountVectorizer(),
        CountVectorizer(ngram_range=(1, 2), binary=True),
        CountVectorizer(analyzer="char_wb", dtype=np.float32),
        CountVectorizer(vocabulary=WORDS[:10]),
        TfidfVectorizer(),
        TfidfVectorizer(norm="l1", sublinear_tf=True),
        TfidfVectorizer(norm=None, smooth_idf=False),
        TfidfVectorizer(use_idf=False),
        TfidfVectorizer(use_idf=False, norm=None),
        TfidfVectorizer(dtype=np.float32),
        TfidfVectorizer(vocabulary=WORDS[:10], smooth_idf=True),
        make_pipeline(CountVectorizer(), TfidfTransformer()),
        make_pipeline(CountVectorizer(), TfidfTransformer(use_idf=False)),
        make_pipeline(HashingVectorizer(n_features=64, alternate_sign=False), TfidfTransformer(norm=None)),
    ],
    ids=str,
)
def test_vocabularies_are_those_of_the_texts_that_stay(step):
    X = texts(np.random.default_rng(0))
    tolerance = 1e-5 if getattr(step, "dtype", None) is np.float32 else 1e-10
    assert_forgets(step, X, GROUPS, tolerance=tolerance)


@pytest.mark.parametrize("kind", [CountVectorizer, TfidfVectorizer])
@pytest.mark.parametrize(
    "params",
    [
        {"min_df": 3},
        {"min_df": 0.05, "max_df": 0.4},
        {"max_df": 30},
        {"max_features": 12},
        {"max_features": 5, "min_df": 2, "max_df": 0.5},
    ],
    ids=str,
)
def test_terms_that_are_left_out(kind, params):
    X = texts(np.random.default_rng(1))
    assert_forgets(kind(**params), X, [*GROUPS, *([k] for k in range(20, 45, 3))], stored=False)


def test_a_term_that_was_too_frequent_comes_into_use():
    X = ["common one", "common two", "common", "rare two", "rare one"]
    step = CountVectorizer(max_df=2).fit(X)
    forgotten = remember(step, X).without(step, X[:1])
    assert forgotten.transformer.vocabulary_ == CountVectorizer(max_df=2).fit(X[1:]).vocabulary_
    assert (forgotten.columns < 0).any()
    np.testing.assert_array_equal(
        forgotten.outputs(step.transform(X[1:]), X[1:]).toarray(), forgotten.transformer.transform(X[1:]).toarray()
    )


def test_no_term_is_left():
    X = ["alpha beta", "alpha gamma", "delta"]
    step = CountVectorizer(min_df=2).fit(X)
    with pytest.raises(ValueError, match="CountVectorizer: no term is left in the rows that stay"):
        remember(step, X).without(step, X[:1])


def test_series_and_tables_of_counts():
    X = texts(np.random.default_rng(2))
    assert_forgets(TfidfVectorizer(), pd.Series(X), GROUPS)
    counts = CountVectorizer().fit_transform(X)
    assert_forgets(TfidfTransformer(), counts, GROUPS)
    assert_forgets(TfidfTransformer(), sparse.csc_array(counts), GROUPS)
    assert_forgets(TfidfTransformer(), counts.toarray(), GROUPS)


def test_texts_that_come():
    X = texts(np.random.default_rng(3))
    step = TfidfVectorizer().fit(X[:90])
    memory = remember(step, X[:90])
    known = [" ".join(step.get_feature_names_out()[:4])]
    more = memory.with_rows(step, known)
    assert_same(more.transformer, TfidfVectorizer().fit(X[:90] + known))
    with pytest.raises(ValueError, match="The new rows call for output columns that there are not; fit again"):
        memory.with_rows(step, ["secretword"])


def test_what_cannot_be_read_is_not_quoted():
    X = texts(np.random.default_rng(4))
    step = CountVectorizer().fit(X)
    with pytest.raises(ValueError, match="CountVectorizer: the rows cannot be read as those of fit were") as caught:
        remember(step, X).without(step, [["secret", "list"], np.nan])
    assert "secret" not in str(caught.value)
