"""Stateless services over the engine, for callers who want a call and its result."""

from upstream.services.data_export import DataExportService

__all__ = ["DataExportService"]
