# Sphinx configuration; build with: sphinx-build -W -b html docs docs/_build
#
# Two environment variables, both may be missing:
# SK_UNLEARN_DOCS_URL     where the site will stand, such as https://example.org/sk-unlearn/; adds what others show of a
#                         link to a page (Open Graph), canonical addresses, and the switcher between versions, which
#                         reads _static/switcher.json: each release adds itself there, with the address of its pages
# SK_UNLEARN_DOCS_ONLINE  if set, take the whole inventories of other projects from their sites
import os
import sys
from pathlib import Path

import sk_unlearn
from sk_unlearn.pipeline import Pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for gallery, site_extension and site_texts

import site_texts  # noqa: E402

SITE_URL = os.environ.get("SK_UNLEARN_DOCS_URL", "")
ONLINE = bool(os.environ.get("SK_UNLEARN_DOCS_ONLINE"))

project = "sk-unlearn"
author = "The sk-unlearn developers"
copyright = author
version = release = sk_unlearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "site_extension",
]
exclude_patterns = ["_build", "inventories"]
templates_path = ["_templates"]

# ------------------------------------------------------------------------------------------------------------- looks

html_theme = "pydata_sphinx_theme"
html_title = "sk-unlearn"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_baseurl = SITE_URL
html_theme_options = {
    "logo": {"text": "sk-unlearn", "alt_text": "sk-unlearn: first page"},
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    # A page of the reference would otherwise carry links to all others: two hundred pages with two hundred links.
    "collapse_navigation": True,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "search_bar_text": "Search (methods, messages, words) ...",
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {
    # A section of one page needs no list of its pages.
    **{page: [] for page in ("index", "getting_started", "theory", "design", "changes", "contributing")},
    "api": ["sidebar-reference"],
    "generated/*": ["sidebar-reference"],
}
html_context = {"reference": site_texts.reference()}
html_use_index = html_domain_indices = False  # the reference lists all names, and the search finds them
html_show_sourcelink = False
html_copy_source = False

if SITE_URL:
    extensions.append("sphinxext.opengraph")
    ogp_site_url = SITE_URL
    ogp_image = "_static/social.png"
    ogp_image_alt = "A classifier before it forgets some rows, after, and retrained without them"
    ogp_social_cards = {"enable": False}
    ogp_custom_meta_tags = ['<meta name="twitter:card" content="summary_large_image" />']
    html_theme_options["switcher"] = {
        "json_url": f"{SITE_URL.rstrip('/')}/_static/switcher.json",
        "version_match": version,
    }
    html_theme_options["check_switcher"] = False  # it would ask the site, which does not stand yet
    html_theme_options["navbar_end"] = ["version-switcher", "theme-switcher"]
else:
    html_theme_options["navbar_end"] = ["theme-switcher"]

# Prompts and what a session printed stay behind when code is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True

# ------------------------------------------------------------------------------------------------------------- links

# A build must give the same pages wherever it runs, also where no site can be reached: an inventory that is missing is
# a warning, warnings are errors, and waiting for one takes its time. So what the pages name of other projects stands in
# small inventories beside this file, in the format that can be read and written by hand; tests/test_site.py checks
# that all of it exists. A name that stands in none becomes plain code, not an error.
_SITES = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "pandas": "https://pandas.pydata.org/docs",
    "matplotlib": "https://matplotlib.org/stable",
    "sklearn": "https://scikit-learn.org/stable",
    "skorch": "https://skorch.readthedocs.io/en/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
}
intersphinx_mapping = {name: (url, None if ONLINE else f"inventories/{name}.txt") for name, url in _SITES.items()}
# Only links within the site: others change without us, and need a network.
linkcheck_ignore = [r"https?://.*"]

# --------------------------------------------------------------------------------------------------------- reference

# numpydoc would list members in a table of its own, beside those of autodoc.
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say more
autosummary_generate = True
# A class page lists the methods and properties of the class, without those that every estimator, int, str or tuple has.
autosummary_context = {
    "everyones": [
        "__init__",
        *dir(int),
        *dir(str),
        *dir(tuple),
        *(
            name
            for estimator in (sk_unlearn.UnlearnableClassifier, sk_unlearn.UnlearnableRegressor, Pipeline)
            for name in dir(estimator)
            if not str(getattr(getattr(estimator, name, None), "__module__", None)).startswith("sk_unlearn")
        ),
    ]
}

# ----------------------------------------------------------------------------------------------------------- gallery

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "gallery.ByOrder",
    "reset_argv": "gallery.few_seeds",
    # Examples that use a class or function are shown on its page.
    "doc_module": ("sk_unlearn",),
    "backreferences_dir": "generated/examples_of",
    "image_srcset": ["2x"],
    "default_thumb_file": str(HERE / "_static" / "logo.svg"),  # of those that are not run here
    "min_reported_time": 1,
    "show_signature": False,
    "remove_config_comments": True,
    # Examples compare times, so they do not run beside each other ("parallel").
}
