"""Each public name shows an example that is true, and its help reads well."""

import doctest
import inspect
import pydoc

import pytest

from upstream import streaming

PUBLIC = {name: getattr(streaming, name) for name in streaming.__all__}


def examples_of(name):
    [test] = doctest.DocTestFinder(recurse=False).find(PUBLIC[name], name, globs=dict(PUBLIC))
    return test


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_is_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = examples_of(name)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test).failed == 0


@pytest.mark.parametrize("name", ["stream", "plan"])
def test_a_signature_reads_well_in_help(name):
    shown = pydoc.plain(pydoc.render_doc(PUBLIC[name]))
    signature = str(inspect.signature(PUBLIC[name]))
    assert "encoder: 'Encoder' = Csv(), *, chunk_size" in signature
    assert "columns: 'Names | None' = None" in signature
    assert "delimiter" not in signature
    assert " at 0x" not in shown
    assert len(signature) < 500


def test_an_encoder_shows_only_the_options_that_are_set():
    csv = streaming.Csv(null_marker="NULL", delimiter=";")
    assert repr(csv) == "Csv(delimiter=';', null_marker='NULL')"
    assert repr(streaming.Json(indent=2)) == "Json(indent=2)"
    assert repr(streaming.JsonLines()) == "JsonLines()"
    assert eval(repr(csv), dict(PUBLIC)) == csv
