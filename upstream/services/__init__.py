"""Stateless services on top of the engine, for callers who want a result from one call."""

from upstream.services.alert_processing import AlertProcessingService
from upstream.services.data_export import DataExportService
from upstream.services.data_quality import DataQualityService
from upstream.services.report_generation import ReportGenerationService
from upstream.services.report_scheduler import ReportSchedulerService

__all__ = [
    "AlertProcessingService",
    "DataExportService",
    "DataQualityService",
    "ReportGenerationService",
    "ReportSchedulerService",
]
