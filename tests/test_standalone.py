"""The engine alone: Django is installed, and neither settings nor apps are there."""

import pytest

from tests import processes

PREAMBLE = """
import django.conf
from upstream.streaming import *
rows = [{"id": 1, "name": "Zoë"}, {"id": 2, "name": None}]
"""
POSTSCRIPT = """
assert not django.conf.settings.configured
"""


def printed(code, **options):
    return processes.printed(PREAMBLE + code + POSTSCRIPT, **options)


@pytest.mark.parametrize(
    ("encoder", "text"),
    [
        ("Csv()", "id,name\r\n1,Zoë\r\n2,\r\n"),
        ("Json()", '[{"id":1,"name":"Zoë"},{"id":2,"name":null}]'),
        ("JsonLines()", '{"id":1,"name":"Zoë"}\n{"id":2,"name":null}\n'),
    ],
)
def test_list_is_exported_to_a_buffer(encoder, text):
    assert printed(f"print(ascii(to_buffer(stream(rows, encoder={encoder})).read().decode()))") == f"{text!a}\n"


def test_list_is_exported_to_a_file_and_read_again(tmp_path):
    code = """
to_file(stream(rows, compression="gzip"), "x.csv.gz")
print(ascii(list(read_csv("x.csv.gz"))))
"""
    assert printed(code, cwd=tmp_path) == ascii([{"id": "1", "name": "Zoë"}, {"id": "2", "name": ""}]) + "\n"


def test_json_file_becomes_csv(tmp_path):
    (tmp_path / "x.json").write_text('{"data": [{"a": 1}, {"a": 2.50}]}')
    code = 'to_file(stream(read_json("x.json", "data.item")), "x.csv")'
    printed(code, cwd=tmp_path)
    assert (tmp_path / "x.csv").read_bytes() == b"a\r\n1\r\n2.50\r\n"


def test_document_and_plan_need_no_settings():
    assert printed('print(to_buffer(stream({"rows": iter([1, 2])}, encoder=Json())).read())') == (
        """b'{"rows":[1,2]}'\n"""
    )
    assert "memory:      bounded" in printed("print(plan(rows))")


def test_services_export_without_settings():
    code = """
from upstream.services import DataExportService
print(DataExportService.export_to_json(rows, indent=None))
"""
    assert processes.printed(PREAMBLE + code).isascii() is False
