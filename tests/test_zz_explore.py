import datetime, json
from decimal import Decimal
from django.db import connections, transaction
from django.db.models import *
from django.db.models.functions import *
from django.db.models.fields.json import KT
from tests.test_round_trip import *
from tests.test_round_trip import _ordinary_row
def test_x(database):
    p=Parent(name="P", details={"a":{"b":[1]},"t":"x"})
    q=Parent(name="Q", details=None)
    rows=[_ordinary_row(char="a",text="T",json={"a":"x","n":None,"big":2**70}, parent=p, duration=timedelta(days=-1,seconds=5), file="f/é.txt", binary=b"\x00\xff"), _ordinary_row(char="b",json=[1,2],parent=p), _ordinary_row(char="a",json="str")]
    with stored(rows, database) as qs:
        Parent.objects.using(database).bulk_create([q])
        def show(name, f):
            try:
                with transaction.atomic(using=database): r=f()
            except Exception as e: r=f"!!! {type(e).__name__}: {str(e)[:200]}"
            print(f"{name:30}", r)
        E=Everything.objects.using(database)
        cases={
         "flat": E.order_by("pk").values_list("char",flat=True),
         "flat json": E.order_by("pk").values_list("json",flat=True),
         "json key values": E.order_by("pk").values("id","json__a","json__n","json__big"),
         "KT": E.order_by("pk").annotate(k=KT("json__a")).values("k"),
         "group": E.values("char").annotate(n=Count("id"),s=Sum("decimal"),a=Avg("integer"),m=Max("datetime"),d=Sum("duration")).order_by("char"),
         "distinct": E.values_list("char",flat=True).distinct().order_by("char"),
         "dates": E.dates("date","month"),
         "datetimes": E.datetimes("datetime","hour"),
         "annot json": E.order_by("pk").annotate(o=JSONObject(a="char",b="decimal")).values("o"),
         "annot null json": E.order_by("pk").annotate(o=Cast("json",JSONField())).values("o"),
         "annot dec": E.order_by("pk").annotate(o=F("decimal")*2, e=ExpressionWrapper(F("floating")/3,output_field=FloatField()), c=Coalesce("text_or_null",Value("zz"))).values("o","e","c"),
         "only": E.only("id","char").order_by("pk"),
         "extra": E.extra(select={"x":"1+1"}).order_by("pk").values("id","x"),
         "none": E.none(),
         "emptyin": E.filter(pk__in=[]),
         "sliced rev": E.order_by("-pk")[1:2].values("char"),
         "exists": E.annotate(e=Exists(Parent.objects.filter(pk=OuterRef("parent")))).order_by("pk").values("char","e"),
         "trunc": E.annotate(t=TruncDay("datetime"), d=TruncDate("datetime"), h=ExtractHour("datetime")).order_by("pk").values("t","d","h"),
         "window": E.annotate(r=Window(RowNumber(),order_by="id")).order_by("pk").values("r"),
         "parent": E.order_by("pk").values("parent","parent__name","parent__details"),
         "reverse": Parent.objects.using(database).order_by("pk").values("name","children__char"),
         "valfunc": E.order_by("pk").values("char", up=Upper("char")),
         "subquery": E.order_by("pk").annotate(s=Subquery(Parent.objects.filter(pk=OuterRef("parent")).values("details")[:1])).values("s"),
         "raw": E.raw("select id, char, json, decimal, duration, uuid, 1+1 as two from fieldtypes_everything order by id"),
        }
        for name,c in cases.items():
            for enc in (Csv(header=True), JsonLines()):
                show(name, lambda: written(c if name=="raw" else c.all(), None, enc)[:300])
        cols={
          "relation name": ["char","parent"], "rel id":["parent_id"], "pk":["pk"], "json key":["json__a","json__n","json__big"], "rel json":["parent__details__a__b","parent__details"],
          "filefield":["file","file__name"], "method":["parent__letters","parent__label"], "display":["get_level_display","get_word_display"],"str":["__str__"],"rev":["parent__children"], "unknown":["chra"], "date part":["date__year","datetime__hour"], "alters":["delete"], "manager":["parent__children__count"], "meta":["_state"],
          "colval": [Column("parent",value=str,header="p")], "colfn":[Column(lambda r: r.parent, header="p")],
        }
        for name,c in cols.items():
            for enc in (Csv(), JsonLines()):
                show(name, lambda: written(E.order_by("pk"), c, enc)[:300])
