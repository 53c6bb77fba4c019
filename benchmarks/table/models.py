"""One column of each common type, and a parent to join."""

from django.db import models


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
