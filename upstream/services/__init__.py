"""Stateless services on top of the engine, for callers who want a result from one call."""

from upstream.services.data_export import DataExportService
from upstream.services.report_generation import ReportGenerationService
from upstream.services.report_scheduler import ReportSchedulerService

__all__ = ["DataExportService", "ReportGenerationService", "ReportSchedulerService"]
