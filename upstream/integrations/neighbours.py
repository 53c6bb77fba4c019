"""The admin mixin beside those of other libraries: what both of them set or name alike."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

from django.http import HttpRequest
from django.template.loader import select_template
from django.template.response import TemplateResponse

from upstream.integrations.formats import Format

LIST_TEMPLATE = "upstream_integrations/admin/change_list.html"


def with_button(page: Any, request: HttpRequest) -> Any:
    """Return the changelist's page on a template that adds the export button to the page's own template.

    That template is known only now: `change_list_template` may be a string, a list, a property or a method, and
    other mixins set it too. Pages of actions, and pages that were rendered already, stay as they are.
    """
    if isinstance(page, TemplateResponse) and not page.is_rendered and "cl" in (page.context_data or {}):
        page.context_data["upstream_list_template"] = _template(page.template_name, request)  # type: ignore[index]
        page.template_name = LIST_TEMPLATE
    return page


def own_formats(model_admin: Any, ours: type) -> Iterable[str | Format]:
    """Return the `export_formats` of a model admin, without those of another library, which have the same name.

    Ours are those of a class that descends from `ours`, and names and Formats in any class.
    """
    if "export_formats" in vars(model_admin):
        return vars(model_admin)["export_formats"]  # type: ignore[no-any-return]
    for kind in type(model_admin).__mro__:
        if "export_formats" in vars(kind):
            found = vars(kind)["export_formats"]
            value = found.__get__(model_admin, type(model_admin)) if hasattr(found, "__get__") else found
            if issubclass(kind, ours) or all(isinstance(one, str | Format) for one in value or [None]):
                return value  # type: ignore[no-any-return]
    raise AssertionError(model_admin)


def _template(named: Any, request: HttpRequest) -> Any:
    """Return the template that a page was given; a method is called, with the request if it takes one."""
    if callable(named):
        named = named(request) if signature(named).parameters else named()
    if isinstance(named, list | tuple):
        return select_template([str(name) for name in named])
    return named if hasattr(named, "render") else str(named)
