import subprocess
import sys

import pytest

from sk_unlearn.utils._templates import render

jinja2 = pytest.importorskip("jinja2")


def test_what_is_filled_in_is_escaped():
    page = render("sk_unlearn.utils", "card.html", title="<name>", told="'a' & \"b\"", boxes=(), facts=(), parts=())
    assert '<div class="title">&lt;name&gt; <span>&#39;a&#39; &amp; &#34;b&#34;</span></div>' in page


def test_a_name_that_the_context_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("sk_unlearn.utils", "card.html")


@pytest.mark.parametrize("package", ["sk_unlearn.inspection._audit", "sk_unlearn.utils"])
def test_the_style_is_shared(package):
    assert render(package, "shared.css").startswith(".sku {")


def test_an_unknown_template_is_an_error():
    with pytest.raises(jinja2.TemplateNotFound, match=r"other\.html"):
        render("sk_unlearn.utils", "other.html")


def test_importing_the_package_does_not_import_jinja2():
    code = "import sys, sk_unlearn, sk_unlearn.inspection; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
