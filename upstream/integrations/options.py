"""The options of exports, which have the same names and meanings in views, model admins and REST framework."""

from collections.abc import Iterable
from typing import Any

from upstream.integrations.formats import FORMATS, Format, Profile
from upstream.integrations.limits import Limits
from upstream.integrations.permissions import ACTION

PREFIX = "export_"


class ExportOptions:
    """What views, model admins and REST framework's views with exports have in common.

    - `export_columns`: the columns to choose from; None for those of the model, the list or the serializer.
    - `export_formats`: the formats to choose from, names or Formats; the first is the default.
    - `export_permission`: the permission that a user needs: "export" stands for the one to export the model
      (`app.export_model`, which `upstream.integrations` creates), and None lets everyone export who sees the list.
    - `export_profile`: "data" changes no value, "excel" writes for people.
    - `export_filename`: the name of the file without its suffix; empty for the name of the model.
    - `export_spool`: whether a download is written to disk first; None decides by the server and the request.
    - `export_limits`: the Limits that replace those of the site.
    """

    export_columns: Any = None
    export_formats: Iterable[str | Format] = FORMATS
    export_permission: str | None = ACTION
    export_profile: Profile = "data"
    export_filename: str = ""
    export_spool: bool | None = None
    export_limits: Limits | None = None


class Plain:
    """An option `export_<name>` that may be declared as `<name>` too; the longer name wins."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name.removeprefix(PREFIX)

    def __get__(self, view: Any, kind: type) -> Any:
        return getattr(kind if view is None else view, self._name)
