"""Targets of bytes: a buffer, a file, a storage, an HTTP response. A target knows no format."""

from upstream.streaming.targets.buffers import to_buffer
from upstream.streaming.targets.files import to_file
from upstream.streaming.targets.responses import ExportResponse, ato_response, to_response
from upstream.streaming.targets.storages import to_storage

__all__ = ["ExportResponse", "ato_response", "to_buffer", "to_file", "to_response", "to_storage"]
