"""The export engine: rows in, bytes out, in bounded memory."""

from upstream.streaming.columns import Column, Table
from upstream.streaming.encoders.delimited import Csv
from upstream.streaming.encoders.json import Json, JsonLines
from upstream.streaming.encoders.parquet import Parquet
from upstream.streaming.encoders.pdf_table import Pdf
from upstream.streaming.encoders.xlsx import Xlsx
from upstream.streaming.errors import (
    BlockedURLError,
    ColumnError,
    DeadlineError,
    ExportError,
    LimitError,
    MissingDependencyError,
    SourceError,
    StreamOverError,
    TextError,
)
from upstream.streaming.pipeline import ByteStream, stream
from upstream.streaming.plans import Plan, plan
from upstream.streaming.sources.files import read_csv, read_json
from upstream.streaming.targets import ExportResponse, ato_response, to_buffer, to_file, to_response, to_storage

__all__ = [
    "BlockedURLError",
    "ByteStream",
    "Column",
    "ColumnError",
    "Csv",
    "DeadlineError",
    "ExportError",
    "ExportResponse",
    "Json",
    "JsonLines",
    "LimitError",
    "MissingDependencyError",
    "Parquet",
    "Pdf",
    "Plan",
    "SourceError",
    "StreamOverError",
    "Table",
    "TextError",
    "Xlsx",
    "ato_response",
    "plan",
    "read_csv",
    "read_json",
    "stream",
    "to_buffer",
    "to_file",
    "to_response",
    "to_storage",
]
