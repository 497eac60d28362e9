# Sphinx configuration; build with: sphinx-build -W -b html docs docs/_build
import sys
from pathlib import Path

import sk_unlearn
from sk_unlearn.pipeline import Pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for gallery_arguments

project = "sk-unlearn"
author = "The sk-unlearn developers"
copyright = author
version = release = sk_unlearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Machine unlearning for neural networks: fit, then forget",
    "fixed_sidebar": True,
    "page_width": "1080px",
}

# numpydoc would list members in a table of its own, beside those of autodoc.
numpydoc_show_class_members = False
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

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "reset_argv": "gallery_arguments.few_seeds",
    "show_signature": False,
    "remove_config_comments": True,
}
