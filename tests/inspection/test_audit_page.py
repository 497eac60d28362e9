"""The page of an audit: it stands by itself, is sound HTML, and fits a screen, a phone and paper."""

import copy
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest

from sk_unlearn.inspection import audit
from sk_unlearn.inspection._audit._scales import Figure, scale
from sk_unlearn.privacy import Certificate
from sk_unlearn.unlearners import StoCuReNU
from tests._problems import tiny_classifier

HOSTILE = "<script>alert('a' & \"b\")</script>"
ESCAPED = "&lt;script&gt;alert(&#39;a&#39; &amp; &#34;b&#34;)&lt;/script&gt;"
LONG = "Unlearnable" * 60


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 3))
    y = (X[:, 0] + 0.3 * rng.normal(size=120) > 0).astype(int)
    before = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60])
    after = copy.deepcopy(before).forget(X[:12])
    return audit(after, X[:12], y[:12], X[60:], y[60:], before=before)


def body(page):
    return page[page.index("<body>") : page.index("</body>") + len("</body>")]


class Outline(HTMLParser):
    """What a page is made of."""

    EMPTY = ("meta", "br", "hr")

    def __init__(self, page):
        super().__init__()
        self.open, self.headings, self.elements = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# ------------------------------------------------------------------ by itself


def test_it_stands_by_itself(report, tmp_path):
    pytest.importorskip("matplotlib")
    page = report.to_html(tmp_path / "audit.html")
    assert (tmp_path / "audit.html").read_text(encoding="utf-8") == page
    assert body(page).count("<figure>") == 3
    assert not re.search(r"url\((?!#)|@import|src=", page)
    # What is left are the names of two XML vocabularies, which nothing loads.
    assert set(re.findall(r"(?:https?:)?//[^\s\"'<>]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    for tag, attrs in Outline(page).elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attrs if name.startswith("on")]
        assert all(attrs[name].startswith("#") for name in ("href", "xlink:href") if name in attrs)


@pytest.mark.parametrize("form", ["to_html", "_repr_html_"])
def test_it_is_sound(report, form):
    text = getattr(report, form)()
    found = Outline(text)
    assert found.open == []
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    drawings = [attrs for tag, attrs in found.elements if tag == "svg"]
    assert all(attrs.get("aria-hidden") or (attrs["role"] == "img" and attrs["aria-label"]) for attrs in drawings)
    assert all(attrs.get("scope") for tag, attrs in found.elements if tag == "th")
    ET.fromstring(body(text) if form == "to_html" else text)


@pytest.mark.parametrize("form", ["to_html", "_repr_html_"])
@pytest.mark.parametrize(
    "names",
    [["headline", "reasons", "assumptions", "certificate", "model", "created", "versions"], ["no_certificate"]],
    ids=["all at once", "no certificate"],
)
def test_it_escapes(report, names, form):
    def hostile(name):
        told = HOSTILE.replace("alert", name)  # each to be found by itself
        kinds = {"certificate": Certificate(told, 1.0), "versions": {told: told}}
        return kinds.get(name, [told] if name in ("reasons", "assumptions") else told)

    html = getattr(replace(report, **{name: hostile(name) for name in names}), form)()
    assert "<script" not in html
    for name in names:
        assert ESCAPED.replace("alert", name) in html


def test_it_escapes_names_in_tables_and_pictures(report):
    pytest.importorskip("matplotlib")
    measures = report.to_frame()
    measures.loc[measures["measure"] == "accuracy", "measure"] = HOSTILE
    measures.loc[measures["rows"] == "all", "rows"] = HOSTILE
    attacks = {HOSTILE: report.attacks["after"]}
    losses = {HOSTILE: report.losses["after"]}
    html = replace(report, measures=measures, attacks=attacks, losses=losses).to_html()
    assert "<script" not in html
    # In the table a measure and a set of rows; each of two pictures has a legend and is told in words.
    assert html.count("&lt;script&gt;") >= 2 + 4


# ------------------------------------------------------------------ what stands in it


def test_it_tells_the_verdict_and_how_the_model_stands_beside_retrained_ones(report):
    page = body(report.to_html())
    first, rest = page.split("<h2>Measures</h2>")
    assert report.headline in first
    assert all(first.count(escape(reason)) == 1 for reason in report.reasons)
    rules = first.split("Were the rules tried out?")[1]
    assert all(escape(told) in rules for told in report.calibration.in_words)
    table = report.to_frame().set_index(["measure", "rows", "model"])
    after, retrained = (table.loc[("attack AUC", "erased", model)] for model in ("after", "retrained"))
    told = "within" if retrained["low"] <= after["value"] <= retrained["high"] else "(above|below)"
    words = f"after: {after['value']:.3g}.*, {told} the range of retrained models, {retrained['low']:.3g}"
    assert re.search(words, first)
    assert re.search(words, rest)
    for name in ("before", "after", "retrained"):
        assert f"<b>{name}</b>: " in first
    for measure in table.index.get_level_values("measure").unique():
        assert f"<b>{measure}</b>" in rest


@pytest.mark.parametrize("verdict", ["closer", "within", "undecided", "not_yet", "over_forgotten"])
def test_every_verdict_has_a_sign_and_a_meaning(report, verdict):
    page = body(replace(report, verdict=verdict).to_html())
    sign, meaning = re.search(r'<div class="verdict \w+"><strong>(.) [^<]+</strong>\s+([^<]+)</div>', page).groups()
    assert sign == {"closer": "✓", "within": "✓", "undecided": "?"}.get(verdict, "✗")
    assert meaning.rstrip().endswith(".")


def test_measures_that_are_new_to_it_are_shown_too(report):
    measures = report.to_frame()
    measures.loc[measures["measure"] == "accuracy", "measure"] = "something new"
    measures.loc[measures["rows"] == "retained", "rows"] = "erased, memorised"
    page = body(replace(report, measures=measures).to_html())
    assert page.index("Other measures") < page.index("<b>something new</b>")
    assert "erased, memorised" in page
    # If no range is of what the verdict rests on, others stand beside it.
    only = measures[(measures["measure"] == "something new") | (measures["model"] == "after")]
    strips = body(replace(report, measures=only).to_html()).split("<h2>Measures</h2>")[0]
    assert "something new, " in strips


def test_a_report_without_a_request(report):
    pytest.importorskip("matplotlib")
    page = body(replace(report, request=None, n_still_stored=None, certificate=None).to_html())
    assert "The estimator has no record of a request." in page
    assert "not kept" in page
    assert page.count("<figure>") == 2


def test_a_report_without_retrained_models(report):
    measures = report.to_frame()
    found = replace(
        report,
        complete=False,
        measures=measures[measures["model"] != "retrained"],
        seeds={"random_state": 0, "references": []},
    )
    page = body(found.to_html())
    assert "There is no picture: there are too few retrained models" in page
    assert "Incomplete" in page
    assert "to retrain one model" not in page


def test_notebooks_get_a_part_of_a_page(report):
    part = report._repr_html_()
    assert part.startswith("<div")
    assert "<html" not in part
    # Colours of the system are those of a page; a notebook has its own.
    assert "prefers-color-scheme" not in part
    assert part.index(report.headline) < part.index("<details>") < part.index("<table")


def test_no_pictures_without_matplotlib(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "matplotlib is not installed" in report.to_html()


def test_pictures_leave_the_users_settings_alone(report):
    mpl = pytest.importorskip("matplotlib")
    settings = dict(mpl.rcParams)
    report.to_html()
    assert dict(mpl.rcParams) == settings


# ------------------------------------------------------------------ one measure


def places(drawn):
    """Where the range lies, and the middle of each mark."""
    root = ET.fromstring(drawn.svg)
    range_ = root.find("*[@class='range']")
    left, width = float(range_.get("x")), float(range_.get("width"))
    found = {"range": (left + 1, left + width - 1)}
    for mark in root:
        if mark.get("class") in ("after", "before"):
            cx = mark.get("cx")
            x = [float(n) for n in re.findall(r"[ML]([\d.]+) ", mark.get("d", ""))]
            found[mark.get("class")] = float(cx) if cx else (min(x) + max(x)) / 2
    return found


NONE = float("nan")


@pytest.mark.parametrize("seed", range(5))
def test_marks_lie_in_the_range_exactly_where_values_do(seed):
    rng = np.random.default_rng(seed)
    scale_of_values = 10.0 ** rng.integers(-8, 8)
    low, high = np.sort(rng.normal(size=2)) * scale_of_values
    for _ in range(20):
        after, before = rng.normal(size=2) * 2 * scale_of_values
        figures = {
            "after": Figure(after, NONE, NONE),
            "before": Figure(before, NONE, NONE),
            "retrained": Figure((low + high) / 2, low, high),
        }
        drawn = scale(figures)
        found = places(drawn)
        left, right = found["range"]
        for name, value in (("after", after), ("before", before)):
            expected = left + (right - left) * (value - low) / (high - low)
            assert found[name] == pytest.approx(np.clip(expected, 8, 232), abs=0.2)
        where = "above" if after > high else "below" if after < low else "within"
        assert drawn.told == f"{where} the range"


def test_retrained_models_that_agree():
    at_one = Figure(1.0, 1.0, 1.0)
    same, other = (scale({"after": Figure(v, NONE, NONE), "retrained": at_one}) for v in (1.0, 0.5))
    assert same.told == "within the range"
    assert other.told == "below the range"
    assert places(same)["after"] == pytest.approx(sum(places(same)["range"]) / 2)
    assert places(other)["after"] < places(other)["range"][0]


def test_nothing_to_compare_with():
    after = Figure(1.0, 0.0, 2.0)
    assert scale({"after": after}) is None
    assert scale({"retrained": after}) is None
    assert scale({"after": after, "retrained": Figure(1.0, NONE, NONE)}) is None
    assert scale({"after": Figure(NONE, NONE, NONE), "retrained": after}) is None


# ------------------------------------------------------------------ in a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Windows are at least 500 wide, whatever is asked for, and a frame is not.
FRAMES = """<!DOCTYPE html><html><body>{frames}<script>
onload = () => {{
  document.title = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, end = node => node.getBoundingClientRect().bottom;
    const widest = [...page.querySelectorAll("body *")].map(node => node.getBoundingClientRect().right);
    return [page.documentElement.scrollWidth, Math.max(...widest), end(page.querySelector(".glance"))].join(" ");
  }}).join(";");
}}
</script></body></html>"""


def run_browser(tmp_path, *arguments):
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120, check=True, env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip
    return done.stdout.decode()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_it_fits_a_screen_a_phone_and_paper(report, tmp_path):
    plain = report.to_html(tmp_path / "audit.html")
    long = replace(report, model=LONG, reasons=[*report.reasons, LONG], assumptions=[LONG], headline=LONG).to_html()
    widths = {1280: plain, 390: plain, 360: long}
    frames = [
        f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{escape(page)}"></iframe>'
        for width, page in widths.items()
    ]
    (tmp_path / "frames.html").write_text(FRAMES.format(frames="".join(frames)), encoding="utf-8")
    shown = run_browser(tmp_path, "--dump-dom", (tmp_path / "frames.html").as_uri())
    title = re.search(r"<title>([^<]+)</title>\s*</head>", shown) or re.search(r"<title>([^<]+)</title>", shown)
    for width, measured in zip(widths, title[1].split(";"), strict=True):
        scrolled, widest, end_of_verdict = map(float, measured.split())
        assert scrolled <= width
        assert widest <= width
        if width == 1280:
            assert end_of_verdict <= 800
    run_browser(tmp_path, f"--print-to-pdf={tmp_path / 'audit.pdf'}", (tmp_path / "audit.html").as_uri())
    assert (tmp_path / "audit.pdf").read_bytes().startswith(b"%PDF")
