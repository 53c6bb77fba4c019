"""What is known of each export in the background. Changes of state are in `states`, each one UPDATE."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Index, UniqueConstraint
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    QUEUED = "queued", _("Waiting")
    RUNNING = "running", _("Running")
    COMMITTING = "committing", _("Completing")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    EXPIRED = "expired", _("Expired")


ACTIVE = (State.QUEUED, State.RUNNING, State.COMMITTING)


class ExportJob(models.Model):
    """An export that is asked for, is written, or was.

    `request` says what is exported, as JSON data: names, filters and an order, and never a list of primary keys.
    It holds the values of filters, so it is emptied when the job expires. `total` are the rows to be expected, if
    they were counted. `fingerprint` is equal for equal requests of one requester, and None once the job is no
    longer active: so a second click finds the job that runs already.

    Whoever writes it holds a lease: `lease` is a name of its own, valid until `leased_until`, and renewed
    meanwhile. What it writes afterwards is refused, because another may hold the lease by then. `file` is the name
    of the whole file in the storage of exports, and `sha256` its checksum.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    model = models.CharField(max_length=201, blank=True)
    columns = models.JSONField(default=list)
    format = models.CharField(max_length=30)
    filename = models.CharField(max_length=255)
    request = models.JSONField()
    fingerprint = models.CharField(max_length=64, unique=True, null=True, blank=True)

    total = models.PositiveBigIntegerField(null=True)
    rows = models.PositiveBigIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)

    attempts = models.PositiveSmallIntegerField(default=0)
    lease = models.CharField(max_length=32, blank=True)
    leased_until = models.DateTimeField(null=True)
    file = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        ordering = ("-created_at",)
        indexes = (
            Index(fields=["requester", "-created_at"], name="exportjob_of_requester"),
            Index(fields=["state", "created_at"], name="exportjob_state"),
            Index(fields=["expires_at"], name="exportjob_expires"),
        )

    def __str__(self) -> str:
        return self.filename

    @property
    def is_active(self) -> bool:
        """Whether it waits or is being written."""
        return self.state in ACTIVE


class ExportPart(models.Model):
    """A part of a job, or of a dump on several machines: who writes it, and what was written.

    The lease is as in ExportJob. `result` is what `run_part` returned, as JSON data; the first that is recorded
    wins, however often the part was delivered.
    """

    job = models.ForeignKey(ExportJob, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    attempts = models.PositiveSmallIntegerField(default=0)
    lease = models.CharField(max_length=32, blank=True)
    leased_until = models.DateTimeField(null=True)
    rows = models.PositiveBigIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        constraints = (UniqueConstraint(fields=["job", "number"], name="exportpart_number"),)

    def __str__(self) -> str:
        return f"{self.job_id}, part {self.number}"
