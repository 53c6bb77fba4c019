# ruff: noqa: DJ001  (NULL must appear in text columns too)
"""A field of every class that Django has, and the ways in which models refer to each other."""

import uuid
from importlib.util import find_spec

from django.db import models
from django.db.models import F
from django.db.models.functions import Upper

from tests.fieldtypes.fields import CentsField, ColourField, OffsetField, ReversedField, SealedField


class Word(models.TextChoices):
    PLAIN = "plain", "A plain word"
    QUOTED = 'with "quotes"', "A quoted word"
    FORMULA = "=1+1", "A formula"
    EMPTY = "", "Nothing"


class Level(models.IntegerChoices):
    BELOW = -1
    ZERO = 0
    ABOVE = 1


class Parent(models.Model):
    name = models.CharField(max_length=200)
    details = models.JSONField(null=True)

    def __str__(self):
        return self.name

    @property
    def label(self):
        return f"<{self.name}>"

    def letters(self):
        return len(self.name)


class LivingManager(models.Manager["Living"]):
    def get_queryset(self):
        return super().get_queryset().exclude(name__startswith="gone")


class Living(Parent):
    """Has a default manager that hides rows, and one that does not."""

    objects = LivingManager()
    everyone = models.Manager()  # noqa: DJ012 (a manager, which the rule takes for a field)

    class Meta:
        proxy = True


class Ticket(models.Model):
    """Has a UUID for its primary key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    code = models.CharField(max_length=20)

    def __str__(self):
        return self.code


class Everything(models.Model):
    """A field of every class that works on all databases; most can be NULL."""

    id = models.AutoField(primary_key=True)
    char = models.CharField(max_length=200)
    char_or_null = models.CharField(max_length=200, null=True)
    text = models.TextField()
    text_or_null = models.TextField(null=True)
    slug = models.SlugField(null=True)
    email = models.EmailField(null=True)
    url = models.URLField(null=True)
    boolean = models.BooleanField()
    boolean_or_null = models.BooleanField(null=True)
    small_integer = models.SmallIntegerField(null=True)
    integer = models.IntegerField()
    integer_or_null = models.IntegerField(null=True)
    big_integer = models.BigIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    positive_big = models.PositiveBigIntegerField(null=True)
    floating = models.FloatField()
    floating_or_null = models.FloatField(null=True)
    decimal = models.DecimalField(max_digits=20, decimal_places=6)
    decimal_or_null = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    whole_decimal = models.DecimalField(max_digits=12, decimal_places=0, null=True)
    date = models.DateField()
    date_or_null = models.DateField(null=True)
    time = models.TimeField()
    time_or_null = models.TimeField(null=True)
    datetime = models.DateTimeField()
    datetime_or_null = models.DateTimeField(null=True)
    duration = models.DurationField()
    duration_or_null = models.DurationField(null=True)
    uuid = models.UUIDField()
    uuid_or_null = models.UUIDField(null=True)
    binary = models.BinaryField()
    binary_or_null = models.BinaryField(null=True)
    json = models.JSONField()
    json_or_null = models.JSONField(null=True)
    file = models.FileField(max_length=200)
    file_or_null = models.FileField(max_length=200, null=True)
    path = models.FilePathField(path="/", max_length=200, null=True)
    ip_address = models.GenericIPAddressField(null=True)
    ipv4_address = models.GenericIPAddressField(protocol="IPv4", null=True)
    word = models.CharField(max_length=20, choices=Word.choices, null=True)
    level = models.SmallIntegerField(choices=Level.choices, null=True)
    next_integer = models.GeneratedField(
        expression=F("small_integer") + 1, output_field=models.IntegerField(null=True), db_persist=True
    )
    upper_slug = models.GeneratedField(
        expression=Upper("slug"), output_field=models.CharField(max_length=200, null=True), db_persist=True
    )
    parent = models.ForeignKey(Parent, models.CASCADE, null=True, related_name="children")
    ticket = models.OneToOneField(Ticket, models.CASCADE, null=True)

    class Meta:
        ordering = ("id",)

    def __str__(self):
        return self.char

    @property
    def shout(self):
        return self.text.upper()


class Disguised(models.Model):
    """Custom fields: what Django gives is not what the database holds."""

    colour = ColourField(max_length=20, null=True)
    backwards = ReversedField()
    price = CentsField(null=True)
    shifted = OffsetField()
    sealed = SealedField(default=dict)

    def __str__(self):
        return self.backwards


class Odd(models.Model):
    """A table and columns whose names have to be quoted."""

    order = models.CharField(max_length=20, db_column="or'der, by")
    select = models.UUIDField(db_column="säle ct; --")
    parent = models.ForeignKey(Parent, models.CASCADE, null=True, db_column="Par ent")

    class Meta:
        db_table = "odd 'table' ; 1"

    def __str__(self):
        return self.order


class Secretive(models.Model):
    name = models.CharField(max_length=20)
    password = models.CharField(max_length=128)
    api_token = models.CharField(max_length=128)

    def __str__(self):
        return self.name


class AccessToken(models.Model):
    """Has a secret for its primary key, as the tokens of REST framework have."""

    key = models.CharField(max_length=40, primary_key=True)
    token_type = models.CharField(max_length=10, default="bearer")
    holder = models.OneToOneField(Parent, models.CASCADE, related_name="access")
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.token_type


class Visit(models.Model):
    """Refers to a secret by its key."""

    access = models.ForeignKey(AccessToken, models.CASCADE, null=True)
    pages = models.IntegerField(default=0)

    def __str__(self):
        return str(self.pages)


if find_spec("psycopg"):
    from django.contrib.postgres import fields as postgres

    class PostgresOnly(models.Model):
        """Fields that only PostgreSQL has; no other database gets the table."""

        integers = postgres.ArrayField(models.IntegerField(null=True), null=True)
        texts = postgres.ArrayField(models.TextField(null=True))
        grid = postgres.ArrayField(postgres.ArrayField(models.FloatField()), null=True)
        moments = postgres.ArrayField(models.DateTimeField(), null=True)
        prices = postgres.ArrayField(models.DecimalField(max_digits=12, decimal_places=3), null=True)
        integer_range = postgres.IntegerRangeField(null=True)
        decimal_range = postgres.DecimalRangeField(null=True)
        date_range = postgres.DateRangeField(null=True)
        datetime_range = postgres.DateTimeRangeField(null=True)

        class Meta:
            required_db_vendor = "postgresql"

        def __str__(self):
            return str(self.pk)
