"""Django's own dump. It writes the key of the customer, and needs no join."""

from io import TextIOWrapper

from django.core.management import call_command

from benchmarks.output import Output


def write(output: Output) -> None:
    text = TextIOWrapper(output, encoding="utf-8")
    call_command("dumpdata", "benchmarks.Payment", stdout=text)
    text.flush()
