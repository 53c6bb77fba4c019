"""Books, and the ways in which a column of a book can show something of another model."""

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=40)
    email = models.EmailField(unique=True)
    number = models.IntegerField(unique=True, null=True)
    notes = models.JSONField(default=dict)

    def __str__(self):
        return self.name


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)

    def __str__(self):
        return self.code


class Profile(models.Model):
    """Its key is that of its author."""

    author = models.OneToOneField(Author, models.CASCADE, primary_key=True)

    def __str__(self):
        return str(self.author)


class Tag(models.Model):
    word = models.CharField(max_length=20)

    def __str__(self):
        return self.word


class Work(models.Model):
    title = models.CharField(max_length=40)

    def __str__(self):
        return self.title


class Book(Work):
    """Inherits from Work, and refers to the others."""

    class Binding(models.TextChoices):
        HARD = "h", "Hardcover"
        SOFT = "s", "Paperback"

    author = models.ForeignKey(Author, models.CASCADE, null=True, related_name="books")
    by_mail = models.ForeignKey(Author, models.CASCADE, to_field="email", null=True, related_name="+")
    by_number = models.ForeignKey(Author, models.CASCADE, to_field="number", null=True, related_name="+")
    country = models.ForeignKey(Country, models.CASCADE, null=True)
    profile = models.ForeignKey(Profile, models.CASCADE, null=True)
    sequel_to = models.ForeignKey("self", models.SET_NULL, null=True)
    tags = models.ManyToManyField(Tag)
    # Tables without migrations are made before those of contenttypes.
    content_type = models.ForeignKey(ContentType, models.CASCADE, null=True, db_constraint=False)
    object_id = models.PositiveIntegerField(null=True)
    subject = GenericForeignKey()
    binding = models.CharField(max_length=1, choices=Binding.choices, default="h")
    bound = models.BooleanField(choices=((True, "As a book"), (False, "In leaves")), null=True)
    details = models.JSONField(default=dict)
    printed_at = models.DateTimeField(null=True)
    read_for = models.DurationField(null=True)

    def __str__(self):
        return self.title

    @property
    def writer(self):
        return self.author

    @property
    def pages(self):
        return len(self.title)


class Cover(models.Model):
    book = models.OneToOneField(Book, models.CASCADE)
    colour = models.CharField(max_length=20)

    def __str__(self):
        return self.colour


class Card(models.Model):
    """Its instances show less than its rows hold."""

    number = models.CharField(max_length=20)
    holder = models.ForeignKey(Author, models.CASCADE)
    limits = models.JSONField(default=dict)

    def __str__(self):
        return self.number

    @classmethod
    def from_db(cls, db, field_names, values, **fetch_mode):
        card = super().from_db(db, field_names, values, **fetch_mode)
        if "number" in card.__dict__:
            card.number = f"****{card.number[-4:]}"
        return card


class Payment(models.Model):
    card = models.ForeignKey(Card, models.CASCADE)

    def __str__(self):
        return f"by {self.card}"


class Greeted(models.Model):
    """Changes in its constructor what it was loaded with."""

    name = models.CharField(max_length=20)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.name = f"Dear {self.name}"

    def __str__(self):
        return self.name
