from django.db import models


class Row(models.Model):
    """What the table and the view of tests.serving.databases hold."""

    id = models.IntegerField(primary_key=True)
    text = models.TextField()

    class Meta:
        abstract = True

    def __str__(self):
        return self.text

    @property
    def shout(self):
        return self.text.upper()


class Line(Row):
    class Meta:
        managed = False
        db_table = "line"


class Wide(Row):
    class Meta:
        managed = False
        db_table = "wide"
