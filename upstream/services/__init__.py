"""Stateless services on top of the engine, for callers who want a result from one call."""

from upstream.services.data_export import DataExportService

__all__ = ["DataExportService"]
