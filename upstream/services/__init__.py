"""Stateless services on top of the engine, for callers who want a result from one call."""

from upstream.services.alert_processing import AlertProcessingService
from upstream.services.data_export import DataExportService
from upstream.services.data_quality import DataQualityService

__all__ = ["AlertProcessingService", "DataExportService", "DataQualityService"]
