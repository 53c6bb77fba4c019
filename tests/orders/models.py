# ruff: noqa: DJ008  (most are never shown as a whole)
"""Orders and what belongs to them: every kind of relation that leads to many rows."""

from decimal import Decimal

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class VisibleManager(models.Manager["Label"]):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Label(models.Model):
    """Its default manager hides rows; it has no ordering."""

    word = models.CharField(max_length=40)
    secret = models.CharField(max_length=40, default="hush")
    hidden = models.BooleanField(default=False)

    objects = VisibleManager()
    everything = models.Manager()  # noqa: DJ012 (a manager, which the rule takes for a field)

    def __str__(self):
        return f"#{self.word}"


class Remark(models.Model):
    """Belongs to rows of any model."""

    text = models.CharField(max_length=40)
    # Tables without migrations are made before those of contenttypes.
    content_type = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    object_id = models.PositiveIntegerField()
    subject = GenericForeignKey()

    def __str__(self):
        return self.text


class Buyer(models.Model):
    name = models.CharField(max_length=40)
    code = models.CharField(max_length=10, unique=True)
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")

    def __str__(self):
        return self.name


class Order(models.Model):
    number = models.IntegerField()
    note = models.TextField(default="")
    buyer = models.ForeignKey(Buyer, models.CASCADE, null=True, related_name="orders")
    labels = models.ManyToManyField(Label, related_name="orders")
    remarks = GenericRelation(Remark, related_query_name="order")

    def __str__(self):
        return f"order {self.number}"

    @property
    def payer(self):
        return self.buyer

    def words(self):
        return [label.word for label in self.labels.all()]


class RushOrder(Order):
    """Inherits the relations of orders, with a table of its own."""

    hours = models.IntegerField(default=1)
    couriers = models.ManyToManyField(Buyer, through="Delivery", related_name="delivered")


class PaperOrder(Order):
    class Meta:
        proxy = True


class Delivery(models.Model):
    """The table of a relation, with a column of its own."""

    order = models.ForeignKey(RushOrder, models.CASCADE, related_name="deliveries")
    courier = models.ForeignKey(Buyer, models.CASCADE)
    on = models.DateField()


class Item(models.Model):
    class Kind(models.TextChoices):
        BOOK = "b", "A book"
        PEN = "p", "A pen"

    order = models.ForeignKey(Order, models.CASCADE, related_name="items")
    sku = models.CharField(max_length=40, null=True)  # noqa: DJ001 (NULL among the values)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal("1.50"))
    kind = models.CharField(max_length=1, choices=Kind.choices, default="b")
    sold_at = models.DateTimeField(null=True)
    details = models.JSONField(default=dict)
    maker = models.ForeignKey(Buyer, models.CASCADE, null=True, related_name="+")
    scan = models.FileField(null=True)

    class Meta:
        ordering = ("-price", "pk")

    def __str__(self):
        return f"{self.sku}"

    @property
    def shout(self):
        return f"{self.sku}!"


class Visit(models.Model):
    """Refers to buyers by another field than their key."""

    buyer = models.ForeignKey(Buyer, models.CASCADE, to_field="code", related_name="visits")
    page = models.CharField(max_length=40)


class Listing(models.Model):
    shelf = models.IntegerField()
    place = models.IntegerField()
    title = models.CharField(max_length=40)

    class Meta:
        unique_together = ("shelf", "place")


class Price(models.Model):
    """Belongs to a listing by two columns."""

    shelf = models.IntegerField()
    place = models.IntegerField()
    amount = models.IntegerField()
    listing = models.ForeignObject(
        Listing,
        models.DO_NOTHING,
        from_fields=("shelf", "place"),
        to_fields=("shelf", "place"),
        related_name="prices",
    )

    class Meta:
        ordering = ("amount",)


class CautiousManager(models.Manager["Careful"]):
    def all(self):
        return super().all().filter(amount__gt=0)


class Careful(models.Model):
    """Its manager's `all()` shows less than prefetching would."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="careful")
    amount = models.IntegerField()

    objects = CautiousManager()


class Spot(models.Model):
    buyer = models.ForeignKey(Buyer, models.CASCADE, related_name="+")
    number = models.IntegerField()

    class Meta:
        unique_together = ("buyer", "number")


class Booking(models.Model):
    """Leads by two columns to a spot, which shares the first of them and may not be there."""

    buyer = models.ForeignKey(Buyer, models.CASCADE, related_name="+")
    number = models.IntegerField()
    spot = models.ForeignObject(
        Spot,
        models.DO_NOTHING,
        from_fields=("buyer", "number"),
        to_fields=("buyer", "number"),
        related_name="+",
    )


class Seat(models.Model):
    """Its key is composite."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()
    name = models.CharField(max_length=40)
