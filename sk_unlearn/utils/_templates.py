"""HTML from jinja2 templates, which lie in a folder beside the code that fills them in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render"]


def render(package: str, name: str, **context: Any) -> str:
    """Fill in a template; what is filled in is escaped, unless the template calls it safe.

    Every template may include those in ``sk_unlearn/utils/templates``, such as the style that all share.

    Parameters
    ----------
    package : str
        Dotted name of the package whose folder ``templates`` holds the template.

    name : str
        The template's file name.

    **context : object
        What the template's names stand for.

    Returns
    -------
    str

    Raises
    ------
    jinja2.TemplateNotFound
        If the folder holds no template of that name.

    jinja2.UndefinedError
        If the template uses a name that the context lacks.
    """
    return _environment(package).get_template(name).render(context)


@cache
def _environment(package: str) -> Environment:
    # Imported only when something is rendered, so that importing the package does not wait for it.
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "sk_unlearn.utils"))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
