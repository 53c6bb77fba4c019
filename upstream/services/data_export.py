"""Exports of small data to a buffer or a file: a fixed contract on top of the streaming engine."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from django.conf import settings

from upstream.streaming import Column, Csv, Json, Table, Xlsx, stream, to_buffer, to_file
from upstream.streaming.columns import KeyReader, Names
from upstream.streaming.pdf import render_pdf
from upstream.streaming.targets.filenames import MAX_BYTES, clean_filename

logger = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


class DataExportService:
    """Export rows, querysets and HTML to an in-memory buffer or to a file.

    Every method is static and keeps no state. Only querysets need configured settings. Without `file_path` the
    whole export is returned in memory; for large data pass a path, or use `upstream.streaming` directly.

    Every format has the value forms in the table of `upstream.streaming.values`. A file appears only when it is
    complete. If writing fails, OSError is logged and raised; no partial file is left, an existing file is kept.
    """

    @staticmethod
    def export_to_csv(
        data: Iterable[Mapping[str, Any]],
        headers: Sequence[str] | None = None,
        file_path: StrPath | None = None,
    ) -> StringIO | StrPath:
        """Export dicts as CSV, as `csv.DictWriter` writes them but with this package's value forms.

        Args:
            data: a list, or any iterable, of dicts.
            headers: the keys to write, in this order; by default those of the first dict. A missing key is an
                empty cell; other keys are left out.
            file_path: the file to write instead of a buffer.

        Returns:
            A StringIO, rewound to 0, or `file_path` unchanged.

        Raises:
            ColumnError: without `headers`, a later dict has keys that the first lacks, which would be lost.
            OSError: the file cannot be written.

        Example:
            >>> buffer = DataExportService.export_to_csv([{"name": "Alice", "age": 30}])
            >>> buffer.getvalue()
            'name,age\\r\\nAlice,30\\r\\n'
        """
        return _as_csv(stream(data, _keys(headers), Csv()), file_path)

    @staticmethod
    def export_to_excel(
        data: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]],
        headers: Sequence[str] | None = None,
        file_path: StrPath | None = None,
    ) -> BytesIO | StrPath:
        """Export dicts as an Excel workbook, with the cells of `upstream.streaming.Xlsx`.

        Args:
            data: a list, or any iterable, of dicts; or a mapping from the names of sheets to such data.
            headers: the keys to write, as in `export_to_csv`, on each sheet.
            file_path: the file to write instead of a buffer.

        Returns:
            A BytesIO, rewound to 0, or `file_path` unchanged.

        Raises:
            ColumnError: as in `export_to_csv`; or a text is longer than a cell, 32,767 characters.
            OSError: the file cannot be written.

        Example:
            >>> buffer = DataExportService.export_to_excel([{"name": "Alice", "age": 30}])
            >>> buffer.read(2)
            b'PK'
        """
        if isinstance(data, Mapping):
            sheets = {name: Table(rows, _keys(headers)) for name, rows in data.items()}
            return _as_bytes(stream(sheets, encoder=Xlsx()), file_path)
        return _as_bytes(stream(data, _keys(headers), Xlsx()), file_path)

    @staticmethod
    def export_to_json(data: Any, file_path: StrPath | None = None, indent: int | None = 2) -> str | StrPath:
        """Export rows or a document as JSON, as `json.dumps(data, indent=indent, ensure_ascii=False)` writes it.

        Args:
            data: a list, or any iterable, of dicts or other values; or a dict of nested data, iterables and
                querysets.
            file_path: the file to write instead of returning the text.
            indent: spaces per level, or None for one line.

        Returns:
            The JSON text, or `file_path` unchanged.

        Raises:
            SourceError: `data` is neither a dict nor an iterable of rows.
            OSError: the file cannot be written.

        Example:
            >>> print(DataExportService.export_to_json({"users": [{"id": 1, "name": "Ada"}], "count": 1}))
            {
              "users": [
                {
                  "id": 1,
                  "name": "Ada"
                }
              ],
              "count": 1
            }
        """
        return _as_json(stream(data, encoder=_json(indent)), file_path)

    @staticmethod
    def export_to_pdf(
        html_content: str,
        file_path: StrPath | None = None,
        stylesheets: Sequence[StrPath] | None = None,
        *,
        asset_directories: Sequence[StrPath] = (),
    ) -> BytesIO | StrPath:
        """Render HTML as PDF with WeasyPrint.

        Args:
            html_content: the document.
            file_path: the file to write instead of a buffer.
            stylesheets: paths of CSS files.
            asset_directories: the only directories from which the document may load images, fonts and CSS.
                Relative URLs are resolved against the first.

        Returns:
            A BytesIO, rewound to 0, or `file_path` unchanged.

        Raises:
            BlockedURLError: the document loads something other than `data:` URLs and files in `asset_directories`.
            MissingDependencyError: WeasyPrint or Pango is not installed; the text names the command to run.
            OSError: a stylesheet cannot be read or the file cannot be written.

        Example:
            >>> buffer = DataExportService.export_to_pdf("<h1>Drift report</h1>")
            >>> buffer.read(5)
            b'%PDF-'
        """
        pdf = render_pdf(html_content, stylesheets=stylesheets or (), directories=asset_directories)
        return BytesIO(pdf) if file_path is None else _written([pdf], file_path)

    @staticmethod
    def queryset_to_csv(
        queryset: Any,
        fields: Sequence[str] | Mapping[str, str],
        headers: Sequence[str] | None = None,
        file_path: StrPath | None = None,
    ) -> StringIO | StrPath:
        """Export a queryset as CSV.

        Args:
            queryset: a queryset of any kind, of instances or `values()`.
            fields: the names to write: fields, paths through relations with `__`, properties, methods; or a
                mapping of these to their headers.
            headers: the names of the columns, one per field; by default the field names.
            file_path: the file to write instead of a buffer.

        Returns:
            A StringIO, rewound to 0, or `file_path` unchanged.

        Raises:
            ValueError: the numbers of headers and fields differ.
            ColumnError: a field is unknown; the text lists similar names.
            OSError: the file cannot be written.

        Example:
            >>> from upstream.models import Customer
            >>> buffer = DataExportService.queryset_to_csv(Customer.objects.none(), ["id", "name"], ["Id", "Name"])
            >>> buffer.getvalue()
            'Id,Name\\r\\n'
        """
        return _as_csv(stream(queryset, _renamed(fields, headers), Csv()), file_path)

    @staticmethod
    def queryset_to_excel(
        queryset: Any,
        fields: Sequence[str] | Mapping[str, str],
        headers: Sequence[str] | None = None,
        file_path: StrPath | None = None,
    ) -> BytesIO | StrPath:
        """Export a queryset as an Excel workbook.

        Args:
            queryset: a queryset of any kind.
            fields: the names to write, as in `queryset_to_csv`.
            headers: the names of the columns, one per field; by default the field names.
            file_path: the file to write instead of a buffer.

        Returns:
            A BytesIO, rewound to 0, or `file_path` unchanged.

        Raises:
            ValueError: the numbers of headers and fields differ.
            ColumnError: a field is unknown, or a text is longer than a cell.
            OSError: the file cannot be written.

        Example:
            >>> from upstream.models import Customer
            >>> buffer = DataExportService.queryset_to_excel(Customer.objects.none(), ["name"], ["Name"])
            >>> buffer.read(2)
            b'PK'
        """
        return _as_bytes(stream(queryset, _renamed(fields, headers), Xlsx()), file_path)

    @staticmethod
    def queryset_to_json(
        queryset: Any, fields: Sequence[str] | None = None, file_path: StrPath | None = None
    ) -> str | StrPath:
        """Export a queryset as a JSON array of objects, indented by two spaces.

        Args:
            queryset: a queryset of any kind.
            fields: the names to write, as in `queryset_to_csv`; by default the model's fields except secrets, or
                the names that `values()` selects.
            file_path: the file to write instead of returning the text.

        Returns:
            The JSON text, or `file_path` unchanged.

        Raises:
            ColumnError: a field is unknown; the text lists similar names.
            OSError: the file cannot be written.

        Example:
            >>> from upstream.models import Customer
            >>> DataExportService.queryset_to_json(Customer.objects.none())
            '[]'
        """
        return _as_json(stream(queryset, fields, _json(2)), file_path)

    @staticmethod
    def generate_file_path(
        base_name: str,
        extension: str,
        directory: StrPath | None = None,
        timestamp: bool = True,
    ) -> str:
        """Return a path for a new export, and create its directory.

        Args:
            base_name: the name of the file. It is made safe: directories and control characters are dropped,
                reserved characters are replaced and it is cut to 230 bytes, so the path never leaves `directory`.
            extension: the suffix, with or without its dot.
            directory: created if it is missing; by default `reports` in `settings.BASE_DIR`, or in the working
                directory if settings are not configured.
            timestamp: whether to add the local time, to the second, to the name.

        Returns:
            The path `{directory}/{base_name}_{YYYYmmdd_HHMMSS}.{extension}`.

        Raises:
            OSError: the directory cannot be created.

        Example:
            >>> DataExportService.generate_file_path("drift: 5/2026", ".csv", "/tmp/exports", timestamp=False)
            '/tmp/exports/2026.csv'
        """
        folder = Path(directory) if directory is not None else _default_directory()
        with _logged(folder):
            folder.mkdir(parents=True, exist_ok=True)
        ending = f"_{datetime.now():%Y%m%d_%H%M%S}" if timestamp else ""
        if extension.strip("."):
            ending += f".{clean_filename(extension.lstrip('.'), 32)}"
        return str(folder / (clean_filename(base_name, MAX_BYTES - len(ending.encode())) + ending))


def _keys(headers: Sequence[str] | None) -> list[Column] | None:
    """Return the columns that read these keys of dicts; a missing key is None."""
    if headers is None:
        return None
    return [Column(KeyReader(header), header=header) for header in headers]


def _renamed(fields: Names, headers: Sequence[str] | None) -> Names:
    if headers is None:
        return fields
    names = list(fields)
    if len(headers) != len(names):
        raise ValueError(f"{len(headers)} headers for {len(names)} fields; give one header per field")
    return [Column(name, header=header) for name, header in zip(names, headers, strict=True)]


def _json(indent: int | None) -> Json:
    return Json(indent=indent, separators=(", ", ": ") if indent is None else (",", ": "))


def _as_csv(chunks: Iterator[bytes], file_path: StrPath | None) -> StringIO | StrPath:
    return StringIO(_text(chunks), newline="") if file_path is None else _written(chunks, file_path)


def _as_bytes(chunks: Iterator[bytes], file_path: StrPath | None) -> BytesIO | StrPath:
    return to_buffer(chunks) if file_path is None else _written(chunks, file_path)


def _as_json(chunks: Iterator[bytes], file_path: StrPath | None) -> str | StrPath:
    return _text(chunks) if file_path is None else _written(chunks, file_path)


def _text(chunks: Iterator[bytes]) -> str:
    return to_buffer(chunks).getvalue().decode()


def _written(chunks: Iterable[bytes], file_path: StrPath) -> StrPath:
    with _logged(file_path):
        to_file(chunks, file_path)
    logger.info("exported to %s", file_path)
    return file_path


@contextmanager
def _logged(path: StrPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.error("export to %s failed: %s", path, error)
        raise


def _default_directory() -> Path:
    return Path(getattr(settings, "BASE_DIR", ".") if settings.configured else ".") / "reports"
