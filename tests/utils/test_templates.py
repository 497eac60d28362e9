import subprocess
import sys

import pytest

from sk_unlearn.utils._templates import render

jinja2 = pytest.importorskip("jinja2")
ROWS = [("<name>", "'a' & \"b\"")]


def test_what_is_filled_in_is_escaped():
    page = render("sk_unlearn.estimators", "report.html", rows=ROWS)
    assert "<tr><th>&lt;name&gt;</th><td>&#39;a&#39; &amp; &#34;b&#34;</td></tr>" in page


def test_a_name_that_the_context_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        render("sk_unlearn.estimators", "report.html")


def test_an_unknown_template_is_an_error():
    with pytest.raises(jinja2.TemplateNotFound, match=r"other\.html"):
        render("sk_unlearn.estimators", "other.html")


def test_importing_the_package_does_not_import_jinja2():
    code = "import sys, sk_unlearn, sk_unlearn.inspection; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
