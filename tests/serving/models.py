from django.db import models


class Line(models.Model):
    """A row of the table that the tests make before the servers start."""

    id = models.IntegerField(primary_key=True)
    text = models.TextField()

    class Meta:
        managed = False
        db_table = "line"

    def __str__(self):
        return self.text
