"""What exports answer, in the OpenAPI schema that drf-spectacular makes of a view."""

from collections.abc import Callable, Collection
from copy import copy
from functools import partial
from typing import Any

# What a row looks like is said by the JSON list; a file of rows has no schema in OpenAPI.
FILE = {"schema": {"type": "string", "format": "binary"}}


class ExportSchema:
    """The `schema` of a view with exports: that of its other classes, with the formats where they are answered."""

    _owner: Any = None

    def __set_name__(self, owner: type, _name: str) -> None:
        self._owner = owner

    def __get__(self, view: Any, kind: type) -> Any:
        found = self._inherited(kind).__get__(view, kind)
        if view is None or not hasattr(found, "get_operation"):
            return found
        described = copy(found)
        described.get_operation = partial(self._operation, view, described, found.get_operation.__func__)
        return described

    def __set__(self, view: Any, schema: Any) -> None:
        self._inherited(type(view)).__set__(view, schema)

    def _inherited(self, kind: type) -> Any:
        """Return the descriptor that the class would have without this one."""
        classes = kind.__mro__
        after = classes[classes.index(self._owner) + 1 :]
        return next(vars(one)["schema"] for one in after if "schema" in vars(one))

    def _operation(self, view: Any, schema: Any, describe: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        operation = describe(schema, *args, **kwargs)
        if not isinstance(operation, dict):
            return operation
        renderers = view.get_renderers()
        formats = {one.media_type: one.format for one in renderers if hasattr(one, "export_format")}
        files = formats.keys() - {one.media_type for one in renderers if not hasattr(one, "export_format")}
        is_list = getattr(view, "action", None) in (None, "list") and getattr(schema, "method", "GET") == "GET"
        for status, response in operation.get("responses", {}).items():
            _describe(response.get("content", {}), files, is_file=is_list and status == "200")
        if not is_list:
            _leave_out(operation, frozenset(formats.values()))
        elif parameters := operation.get("parameters"):
            parameters.append({**COLUMNS})
        else:
            operation["parameters"] = [{**COLUMNS}]
        return operation


COLUMNS = {
    "in": "query",
    "name": "columns",
    "schema": {"type": "string"},
    "description": "Names of the columns of an export, separated by commas; by default all.",
}


def _describe(content: dict[str, Any], files: Collection[str], *, is_file: bool) -> None:
    """Say that these media types are files, or take them out of a response that has none."""
    for media_type in [one for one in content if one in files]:
        if is_file:
            content[media_type] = {**FILE}
        else:
            del content[media_type]


def _leave_out(operation: dict[str, Any], names: frozenset[str]) -> None:
    """Take the names of formats out of the parameters of an operation, and a parameter that leaves no choice."""
    parameters = []
    for parameter in operation.get("parameters", []):
        choices = parameter.get("schema", {}).get("enum", [])
        if names.isdisjoint(choices):
            parameters.append(parameter)
        elif len(left := [one for one in choices if one not in names]) > 1:
            parameters.append({**parameter, "schema": {**parameter["schema"], "enum": left}})
    if "parameters" in operation:
        operation["parameters"] = parameters
