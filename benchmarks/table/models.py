"""A table with a column of each common type and a plain one, with parents to join; and tables that are hard."""

from typing import Any

from django.db import models

from benchmarks.table.rows import COLUMNS, FLIGHT_COLUMNS, KINDS, NULL_COLUMNS, TYPED_COLUMNS, WIDE_COLUMNS


class Customer(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Letter(models.Model):
    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:20]


class Payment(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    reference = models.UUIDField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    score = models.FloatField()
    active = models.BooleanField()
    due = models.DateField()
    created_at = models.DateTimeField()
    details = models.JSONField()
    note = models.TextField()
    remark = models.TextField(null=True)  # noqa: DJ001 (a text that is NULL in some rows is what is measured)
    quantity = models.IntegerField()

    def __str__(self) -> str:
        return str(self.reference)


class Airline(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Flight(models.Model):
    """Numbers, short texts, a boolean and a moment; `departure` is a time of the day such as 1517."""

    airline = models.ForeignKey(Airline, on_delete=models.CASCADE)
    flight = models.IntegerField()
    tail_number = models.CharField(max_length=6, null=True)  # noqa: DJ001 (as in `Payment`)
    origin = models.CharField(max_length=3)
    destination = models.CharField(max_length=3)
    scheduled_at = models.DateTimeField()
    departure = models.IntegerField(null=True)
    departure_delay = models.FloatField(null=True)
    arrival_delay = models.FloatField(null=True)
    cancelled = models.BooleanField()
    distance = models.IntegerField()

    def __str__(self) -> str:
        return str(self.flight)


def _fields(columns: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Return a field for each column, whose name ends with its kind."""
    makers = {
        "reference": models.UUIDField,
        "amount": lambda **kwargs: models.DecimalField(max_digits=12, decimal_places=2, **kwargs),
        "score": models.FloatField,
        "active": models.BooleanField,
        "due": models.DateField,
        "moment": models.DateTimeField,
        "details": models.JSONField,
        "name": lambda **kwargs: models.CharField(max_length=50, **kwargs),
        "note": models.TextField,
        "quantity": models.IntegerField,
    }
    assert tuple(makers) == KINDS
    return {name: makers[name.split("_")[0]](**options) for name in columns}


class Report(models.Model):
    """A text of 10 KB."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:20]


Survey = type("Survey", (models.Model,), {"__module__": __name__, **_fields(WIDE_COLUMNS[1:])})
Draft = type("Draft", (models.Model,), {"__module__": __name__, **_fields(NULL_COLUMNS[1:], null=True)})

TABLES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "payments": (Payment, COLUMNS),
    "typed": (Payment, TYPED_COLUMNS),
    "flights": (Flight, FLIGHT_COLUMNS),
    "200-columns": (Survey, WIDE_COLUMNS),
    "long-texts": (Report, ("id", "text")),
    "nulls": (Draft, NULL_COLUMNS),
}


def selection(table: str) -> tuple[Any, tuple[str, ...]]:
    """Return the queryset and the columns that every case exports of a table."""
    model, columns = TABLES[table]
    return model.objects.all(), columns
