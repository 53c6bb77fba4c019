"""Signals of exports in the background: the sender is ExportJob, and each has the `job`.

An error in a receiver is logged and changes nothing. Receivers run in the worker, after the change is saved.
"""

from django.dispatch import Signal

job_finished = Signal()
"""The file of a job is whole, and can be fetched."""

job_failed = Signal()
"""A job has failed, and does not run again by itself."""
