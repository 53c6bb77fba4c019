"""Compression is one more stage: the same bytes come out, whatever packed them and however they were cut."""

import gzip
import io
import random
import shutil
import subprocess
import sys
import threading
import zlib
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream.streaming import Csv, Json, JsonLines, MissingDependencyError, compression, stream
from upstream.streaming.compression import BLOCK_BYTES, check_compression, compressed

UNPACK = {
    "gzip": gzip.decompress,
    "zlib": lambda data: zlib.decompress(data, wbits=31),
    "zstandard": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
}
READERS = [("gzip", "gzip"), ("gzip", "zlib"), ("zstd", "zstandard")]
KINDS = ["gzip", "zstd"]
# Over two blocks and a bit, of which a third cannot be made smaller.
DATA = random.Random(1).randbytes(BLOCK_BYTES) + b"0123456789abcdef" * (BLOCK_BYTES // 10)
ROWS = [{"n": number, "text": "é" * (number % 50)} for number in range(500)]


def packed(parts, kind):
    return b"".join(compressed((part for part in parts), kind))


def cut(data, places):
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("kind", "reader"), READERS)
@pytest.mark.parametrize("data", [b"", b"a", DATA], ids=["nothing", "one byte", "three blocks"])
def test_programs_that_are_not_ours_read_it(kind, reader, data):
    assert UNPACK[reader](packed([data], kind)) == data


def test_gunzip_reads_it():
    if not shutil.which("gunzip"):
        pytest.skip("there is no gunzip here")
    unpacked = subprocess.run(["gunzip", "-c"], input=packed([DATA], "gzip"), capture_output=True, check=True)
    assert unpacked.stdout == DATA


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(places=st.lists(st.integers(0, len(DATA)), max_size=8))
def test_the_same_data_gives_the_same_bytes_however_it_is_cut(kind, places):
    assert packed(cut(DATA, places), kind) == packed([DATA], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoder", [Csv(), Json(), JsonLines()], ids=lambda encoder: encoder.suffix)
def test_the_batches_of_an_export_do_not_show(kind, encoder):
    once = b"".join(stream(ROWS, None, encoder, compression=kind))
    small = b"".join(stream(ROWS, None, encoder, compression=kind, chunk_size=3))
    assert once == small
    assert UNPACK[dict(READERS)[kind]](once) == b"".join(stream(ROWS, None, encoder))


def test_gzip_holds_no_time_and_no_name():
    header = packed([DATA], "gzip")[:10]
    assert header[:4] == b"\x1f\x8b\x08\x00"
    assert header[4:8] == bytes(4)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_it_closes_what_it_reads(kind):
    events = []

    def chunks():
        try:
            while True:
                yield random.Random(1).randbytes(BLOCK_BYTES)
        finally:
            events.append("closed")

    stage = compressed(chunks(), kind)
    next(stage)
    assert events == []
    stage.close()
    assert events == ["closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_source_leaves_no_complete_file(kind):
    def rows():
        for number in range(5000):
            yield {"text": random.Random(number).randbytes(100).hex()}
        raise KeyError("gone")

    data = bytearray()
    with pytest.raises(KeyError, match="gone"):
        for chunk in stream(rows(), compression=kind):
            data += chunk
    assert data
    with pytest.raises((EOFError, zstandard.ZstdError)):
        zstandard.ZstdDecompressor().decompress(bytes(data)) if kind == "zstd" else gzip.decompress(data)


class TestOptionalPackages:
    def test_without_isal_zlib_packs(self, monkeypatch):
        with_isal = packed([DATA], "gzip")
        monkeypatch.setitem(sys.modules, "isal", None)
        without = packed([DATA], "gzip")
        assert gzip.decompress(without) == gzip.decompress(with_isal) == DATA
        assert without[4:8] == bytes(4)
        assert without != with_isal

    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_the_first_rows_are_in_the_first_chunk(self, kind):
        read = []

        def rows():
            for number in range(100_000):
                read.append(number)
                yield {"n": number}

        with stream(rows(), ["n"], compression=kind) as chunks:
            first = next(chunks)
        unpack = zlib.decompressobj(31) if kind == "gzip" else zstandard.ZstdDecompressor().decompressobj()
        assert unpack.decompress(first).startswith(b"n\r\n0\r\n1\r\n")
        assert len(read) < 10_000

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has zstd itself")
    def test_without_zstandard_the_call_names_the_command_that_installs_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(MissingDependencyError, match=r"python -m pip install 'upstream\[compression\]'"):
            stream(ROWS, compression="zstd")

    @pytest.mark.parametrize("name", ["", "zip", "GZIP", 9, True])
    def test_another_name_is_refused(self, name):
        with pytest.raises(ValueError, match="compression must be"):
            check_compression(name)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_slow_source_do_not_wait_for_a_block(kind, monkeypatch):
    monkeypatch.setattr(compression, "FLUSH_SECONDS", 0.05)
    made = []

    def chunks():
        for number in range(4):
            threading.Event().wait(0.06)
            made.append(number)
            yield b"%d" % number

    data, seen = b"", []
    for part in compression.compressed(chunks(), kind):
        data += part
        seen.append(len(made))
    assert seen[:4] == [1, 2, 3, 4]  # a part came with each row
    assert UNPACK["gzip" if kind == "gzip" else "zstandard"](data) == b"0123"
