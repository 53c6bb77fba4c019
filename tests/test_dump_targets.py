"""Targets of dumps: a dump is there with its manifest, whole, or not at all, on a directory, storages and S3."""

import json
import os
import secrets
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import count

import pytest
from django.core.files.storage import FileSystemStorage, storages
from django.core.management import CommandError, call_command
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from tests import object_store, processes
from tests.dumping import COLUMNS, ROWS, exported, fails_at, stored
from tests.orders.models import Buyer
from tests.serving import databases
from upstream.dumps import (
    S3,
    Directory,
    StorageTarget,
    TargetError,
    VerificationError,
    begin,
    commit,
    plan_dump,
    plan_site,
    resume,
    run,
    run_part,
    target_named,
    verify,
)
from upstream.dumps.manifests import tables_of
from upstream.dumps.targets import leases, multipart, target_of
from upstream.dumps.targets import s3 as s3_targets
from upstream.dumps.targets.buckets import S3Error
from upstream.streaming import Csv, ExportError, Json, Parquet, Xlsx, stream

MEBIBYTE = 1024**2
BUCKET = f"dumps-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
KINDS = ["directory", "files", "memory", "s3 storage", "s3"]
STORES = KINDS[1:]


@pytest.fixture(scope="module")
def served():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.ACCESS.items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        with object_store.stored_in(BUCKET) as store:
            yield store
            object_store.close_clients(store.url)


@pytest.fixture
def store(served):
    yield served
    object_store.empty(served)


@pytest.fixture
def made(store, settings, tmp_path):
    """Make a target of a kind; its place is the same each time."""
    s3 = {"bucket_name": BUCKET, "endpoint_url": store.url, "region_name": "us-east-1"}
    settings.STORAGES = {
        **settings.STORAGES,
        "files": {
            "BACKEND": f"{FileSystemStorage.__module__}.FileSystemStorage",
            "OPTIONS": {"location": tmp_path},
        },
        "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "s3 storage": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": s3},
    }
    targets = {
        "directory": lambda: Directory(str(tmp_path / "there" / "dump")),
        "s3": lambda: S3(BUCKET, "there/dump", store.url),
    }
    yield lambda kind: targets.get(kind, lambda: StorageTarget(kind, "there/dump"))()
    storages["s3 storage"].connection.meta.client.close()


@pytest.fixture(params=KINDS)
def target(request, made):
    return made(request.param)


@pytest.fixture(params=STORES)
def objects(request, made):
    """Each target whose dump appears by its manifest."""
    return made(request.param)


@pytest.fixture
def s3(made):
    return made("s3")


@pytest.fixture
def rows(db):
    return stored("default")


def content(target):
    """Return what is published: the parts in the order of the manifest, or the one file."""
    manifest = json.loads(target.manifest())
    names = [manifest["file"]] if "file" in manifest else [part["name"] for part in manifest["parts"]]
    return b"".join(chunk for name in names for chunk in target.read_published(name))


def is_clean(target, but="nothing"):
    """Return whether a place holds nothing but its dump: nothing staged, locked, marked or foreign."""
    told = json.loads(target.manifest() or '{"parts": []}')
    parts = [part for table in tables_of(told) for part in table["parts"]]
    names = {told["file"]} if "file" in told else {part["name"] for part in parts}
    if isinstance(target, Directory):
        beside = [path for path in target._final.parent.iterdir() if path != target._final]
        return not beside and (not target._final.exists() or set(target.published()) == names)
    keys = {key for key in keys_of(target) if but not in key}
    return keys == names | ({"manifest.json"} if target.manifest() else set())


def keys_of(target):
    return list(target.keys())


def resumed(target):
    """Resume a dump as soon as the lease of the process that died has ended."""
    manifests = []

    def is_free():
        with suppress(TargetError):
            manifests.append(resume(target))
        return manifests

    assert processes.eventually(is_free, 60)
    return manifests[0]


@pytest.mark.heavy_with("s3 storage")
class TestAnyTarget:
    @pytest.mark.parametrize("is_joined", [False, True], ids=["parts", "one file"])
    def test_holds_the_bytes_of_one_export(self, target, rows, is_joined):
        manifest = run(plan_dump(rows, COLUMNS, Json(), target, parts=4, joined=is_joined))

        assert content(target) == exported(rows, Json())
        assert len(manifest["parts"]) == 4
        assert verify(target) == manifest
        assert is_clean(target)

    def test_is_made_again_from_the_data_of_a_plan(self, target):
        assert target_of(json.loads(json.dumps(target.as_data()))).as_data() == target.as_data()

    def test_shows_no_dump_until_the_last_part_is_written(self, target, rows):
        seen = []
        run(plan_dump(rows, COLUMNS, Csv(), target, parts=3), report=lambda *_: seen.append(target.manifest()))
        assert set(seen) == {None}
        assert target.manifest()

    @pytest.mark.parametrize("is_joined", [False, True], ids=["parts", "one file"])
    def test_keeps_the_old_dump_until_the_new_one_is_whole(self, target, rows, is_joined):
        first = run(plan_dump(rows, COLUMNS, Csv(), target, parts=3, joined=is_joined))
        old = content(target)
        rows.filter(id__lt=50).delete()

        def is_there(*_):
            assert verify(target) == first
            assert content(target) == old

        with pytest.raises(TargetError, match=r"not empty|a dump is there"):
            run(plan_dump(rows, COLUMNS, Csv(), target, parts=2))
        plan = plan_dump(rows, COLUMNS, Csv(), target, parts=4, joined=is_joined)
        with pytest.raises(RuntimeError):
            run(plan, overwrite=True, report=fails_at(2))
        is_there()
        run(plan, overwrite=True, report=is_there)

        assert content(target) == exported(rows) != old
        assert verify(target)["dump"] == plan.identity
        assert is_clean(target)

    def test_takes_one_file_instead_of_parts_and_parts_instead_of_one_file(self, target, rows):
        for is_joined in (True, False, True):
            run(plan_dump(rows, COLUMNS, Csv(), target, parts=2, joined=is_joined), overwrite=True)
            assert verify(target)["rows"] == ROWS
            assert content(target) == exported(rows)
            assert is_clean(target)

    def test_resumes_only_what_is_missing(self, target, rows):
        with pytest.raises(RuntimeError):
            run(plan_dump(rows, COLUMNS, Csv(), target, parts=4), report=fails_at(1))
        assert target.manifest() is None
        with pytest.raises(TargetError, match="unfinished dump is there"):
            run(plan_dump(rows, COLUMNS, Csv(), target))
        ran = set()

        resume(target, report=lambda number, *_: ran.add(number))

        assert ran == {2, 3}
        assert content(target) == exported(rows)
        assert is_clean(target)

    def test_is_written_by_one_dump_at_a_time(self, target, rows):
        def another(*_):
            with pytest.raises(TargetError, match="another dump is being written"):
                run(plan_dump(rows, COLUMNS, Csv(), target), overwrite=True)

        run(plan_dump(rows, COLUMNS, Csv(), target, parts=3), report=another)
        assert content(target) == exported(rows)
        assert is_clean(target)

    def test_lets_at_most_one_of_many_in_that_come_at_once(self, target):
        def come(together):
            together.wait(300)
            try:
                with target.claim(resume=False, overwrite=False):
                    together.wait(300)
                    return True
            except TargetError:
                together.wait(300)
                return False

        for _ in range(2):
            with ThreadPoolExecutor(3) as pool:
                came = list(pool.map(come, [threading.Barrier(3)] * 3))
            assert sum(came) <= 1
            target.discard()

    def test_gets_nothing_from_a_part_that_runs_on_after_the_end(self, target, rows):
        plan = plan_dump(rows, COLUMNS, Csv(), target, parts=3)
        run(plan)
        with pytest.raises(OSError, match=r"No such file|no dump is being written"):
            run_part(plan, 1)
        assert is_clean(target)

    def test_keeps_nothing_of_a_part_whose_source_fails(self, target, rows):
        begin(plan_dump(rows, COLUMNS, Csv(), target, parts=3))
        before = target.names()

        def chunks():
            yield b"x" * MEBIBYTE
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            target.write("part-00000-0123abcd.csv", chunks())
        assert target.names() == before

    def test_keeps_nothing_of_a_dump_whose_first_part_fails(self, target, rows):
        with pytest.raises(ExportError):
            run(plan_dump(rows, COLUMNS, Csv(encoding="ascii"), target, parts=2))
        assert target.manifest() is None
        assert is_clean(target)

    def test_is_verified_part_by_part(self, target, rows):
        run(plan_dump(rows, COLUMNS, Csv(), target, parts=2))
        manifest = json.loads(target.manifest())
        manifest["parts"][1]["sha256"] = "0" * 64

        class Changed(type(target)):
            def manifest(self):
                return json.dumps(manifest).encode()

        with pytest.raises(VerificationError, match="SHA-256"):
            verify(Changed(**{key: value for key, value in target.as_data().items() if key != "kind"}))


class TestObjects:
    """What holds where nothing can be renamed."""

    def test_of_others_are_neither_mixed_with_a_dump_nor_deleted(self, objects, rows):
        objects.put("theirs.txt", [b"theirs"])
        for overwrite in (False, True):
            with pytest.raises(TargetError, match=r"no dump has written, such as 'theirs\.txt'"):
                run(plan_dump(rows, COLUMNS, Csv(), objects), overwrite=overwrite)
        assert list(objects.keys()) == ["theirs.txt"]

    def test_in_a_folder_below_are_those_of_others(self, objects, rows):
        below = type(objects)(**{**data_of(objects), "prefix": f"{objects.prefix}/below"})
        run(plan_dump(rows, COLUMNS, Csv(), below, parts=2))
        with pytest.raises(TargetError, match="such as 'below/"):
            run(plan_dump(rows, COLUMNS, Csv(), objects), overwrite=True)
        assert verify(below)["rows"] == ROWS

    def test_gone_from_an_unfinished_dump_are_told_before_it_is_published(self, objects, rows):
        plan = plan_dump(rows, COLUMNS, Csv(), objects, parts=3)

        def lose(number, *_):
            if number == 2:
                objects.delete([name for name in objects.names() if name.startswith("part-00000")])

        with pytest.raises(TargetError, match="parts have gone"):
            run(plan, report=lose)
        assert objects.manifest() is None

    @pytest.mark.parametrize("is_joined", [False, True], ids=["parts", "one file"])
    def test_are_published_again_after_an_interruption_anywhere(self, objects, rows, is_joined, monkeypatch):
        plan = plan_dump(rows, COLUMNS, Csv(), objects, parts=2, joined=is_joined)
        begin(plan)
        parts = [run_part(plan, number) for number in range(2)]
        for step in count():
            calls, change = count(), type(objects)
            with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
                for name in ("put", "delete"):
                    patch.setattr(change, name, interrupted_at(step, calls, getattr(change, name)))
                commit(plan, parts)
                break
        assert step >= 3
        assert verify(objects)["rows"] == ROWS
        assert content(objects) == exported(rows)
        assert is_clean(objects)

    def test_of_several_models_are_in_a_folder_for_each(self, objects):
        other = StorageTarget.put if isinstance(objects, StorageTarget) else S3.put
        for attempt, overwrite in (("0123abcd", False), ("4567abcd", True)):
            names = [f"{folder}/part-00000-{attempt}.csv" for folder in ("orders.item", "orders.order")]
            told = {"models": [{"parts": [{"name": name}]} for name in names]}
            with objects.claim(resume=False, overwrite=overwrite):
                for name in names:
                    objects.write(name, [name.encode()])
                    objects.write(f"{name}.result", [b"{}"])
                objects.write("orders.item/part-00000-89abcdef.csv", [b"an attempt that is not taken"])
                other(objects, "theirs/part-00000-0123abcd.csv", [b"of a dump below"])
                assert set(names) <= set(objects.names())
                assert f"{names[0]}.result" in objects.names()
                objects.publish(names, json.dumps(told).encode())
            assert set(objects.keys()) == {"manifest.json", "theirs/part-00000-0123abcd.csv", *names}
            assert [b"".join(objects.read_published(name)) for name in names] == [name.encode() for name in names]
            objects.delete(["theirs/part-00000-0123abcd.csv"])
        with pytest.raises(TargetError, match="no dump is being written"):
            objects.write(names[0], [b"late"])

    def test_that_cannot_be_listed_are_refused(self, made, rows, monkeypatch):
        def listdir(*_):
            raise NotImplementedError

        monkeypatch.setattr(FileSystemStorage, "listdir", listdir)
        with pytest.raises(TargetError, match="cannot list files"):
            run(plan_dump(rows, COLUMNS, Csv(), made("files"), parts=2))

    def test_of_a_foreign_manifest_are_kept(self, objects, rows):
        objects.put("manifest.json", [b'{"name": "an extension of a browser"}'])
        with pytest.raises(TargetError, match="none of a dump"):
            run(plan_dump(rows, COLUMNS, Csv(), objects), overwrite=True)
        assert objects.manifest() == b'{"name": "an extension of a browser"}'

    @pytest.mark.parametrize("prefix", ["a/../b", "a//b", "./a"])
    def test_have_no_prefix_that_leads_elsewhere(self, prefix):
        for make in (lambda: S3("bucket", prefix), lambda: StorageTarget("default", prefix)):
            with pytest.raises(TargetError, match="is no prefix"):
                make()


def interrupted_at(step, calls, change):
    def changed(*arguments):
        if next(calls) == step:
            raise KeyboardInterrupt
        return change(*arguments)

    return changed


def data_of(target):
    return {name: value for name, value in target.as_data().items() if name != "kind"}


@pytest.mark.heavy_with("s3 storage")
class TestFailures:
    """Whatever request or call fails, and however often: the old dump or the new one is there, whole."""

    @contextmanager
    def failing(self, kind, store, monkeypatch, at, answers_first):
        """Fail the calls of a storage, or the requests to S3, from that on; tell whether one was."""
        if kind in ("s3", "s3 storage"):
            with store.failing(lambda number, request: number >= at, answers_first=answers_first):
                yield lambda: len(store.asked) >= at
            return
        calls, storage = count(1), type(storages[kind])
        asked = []

        def counted(call):
            def method(*arguments, **options):
                asked.append(call)
                if next(calls) >= at:
                    if answers_first:
                        lost = call(*arguments, **options)
                        getattr(lost, "close", str)()
                    raise OSError("no answer")
                return call(*arguments, **options)

            return method

        with monkeypatch.context() as patch:
            for name in ("_save", "_open", "delete", "listdir", "exists", "size"):
                patch.setattr(storage, name, counted(getattr(storage, name)))
            yield lambda: len(asked) >= at

    @pytest.mark.parametrize("is_joined", [False, True], ids=["parts", "one file"])
    @pytest.mark.parametrize("answers_first", [False, True], ids=["requests", "answers"])
    @pytest.mark.parametrize("kind", STORES)
    def test_leave_the_old_dump_or_the_new_one(
        self, kind, is_joined, answers_first, made, store, rows, monkeypatch
    ):
        monkeypatch.setattr(leases, "LEASE_SECONDS", -1)  # what a failed dump could not unlock is free at once
        monkeypatch.setattr(leases, "RENEWALS", -1e-3)  # and its thread waits a quarter of an hour
        target = made(kind)
        run(plan_dump(rows, COLUMNS, Csv(), target, parts=1))
        old = target.manifest()
        for at in count(1, step_of(kind)):
            plan = plan_dump(rows, COLUMNS, Csv(), target, parts=2, joined=is_joined)
            with self.failing(kind, store, monkeypatch, at, answers_first) as has_failed:
                try:
                    run(plan, overwrite=True, attempts=1)
                except OSError:
                    assert has_failed()
            if kind == "memory" and target.manifest() is None:
                assert "plan" in target.names()  # it never replaces: what is deleted before can be resumed
            else:
                assert target.manifest() == old or json.loads(target.manifest())["dump"] == plan.identity
                assert content(target) == exported(rows)
            if not has_failed():
                break
            old = target.manifest()
        assert at > 10
        assert verify(target)["dump"] == plan.identity
        assert is_clean(target)
        assert store.pending() == []

    @pytest.mark.parametrize("kind", STORES)
    def test_of_any_request_are_resumed_to_the_same_bytes(self, kind, made, store, rows, monkeypatch):
        monkeypatch.setattr(leases, "LEASE_SECONDS", -1)
        monkeypatch.setattr(leases, "RENEWALS", -1e-3)
        target = made(kind)
        for at in count(1, 2 * step_of(kind)):
            with self.failing(kind, store, monkeypatch, at, False) as has_failed, suppress(Exception):
                run(plan_dump(rows, COLUMNS, Csv(), target, parts=2, joined=True), attempts=1)
            if "plan" in target.names():
                resume(target)
            elif target.manifest() is None:
                run(plan_dump(rows, COLUMNS, Csv(), target, parts=2, joined=True))
            assert verify(target)["rows"] == ROWS
            assert content(target) == exported(rows)
            assert is_clean(
                target, but=".lock"
            )  # which may be left if it could not be deleted, and ends by itself
            assert store.pending() == []
            if not has_failed():
                break
            with target.claim(resume=False, overwrite=True):
                target.delete(target.published())
                target.delete(["manifest.json"])
            target.discard()
        assert at > 5


def step_of(kind):
    """Return how far apart the requests are that fail; with UPSTREAM_EVERY_FAILURE, each does."""
    return 1 if os.environ.get("UPSTREAM_EVERY_FAILURE") else {"s3": 7, "s3 storage": 19}.get(kind, 3)


class TestS3:
    def test_sends_a_large_object_in_pieces_and_compares_its_size(self, s3, store):
        chunks = [secrets.token_bytes(3 * MEBIBYTE) for _ in range(7)]
        store.asked.clear()
        s3.put("x", iter(chunks))
        assert store.count("partNumber=") == 3
        assert store.content("there/dump/x") == b"".join(chunks)

    @pytest.mark.parametrize("answers_first", [False, True], ids=["requests", "answers"])
    def test_keeps_nothing_of_an_upload_of_which_any_request_fails(self, s3, store, answers_first, monkeypatch):
        monkeypatch.setattr(leases, "RENEWALS", 1e-3)  # no renewal is counted among the requests
        name = "part-00000-0123abcd.csv"
        for at in count(1):
            with s3.claim(resume=False, overwrite=True):
                with store.failing(lambda number, _, at=at: number == at, answers_first=answers_first):
                    try:
                        s3.write(name, [b"x" * MEBIBYTE] * 20)
                        break
                    except S3Error as error:
                        told = str(error)
                assert "Internal" in told
                assert list(s3.names()) == []
                is_unknown = answers_first and "uploads" in store.asked[at - 1]  # it began, but nobody was told
                assert len(store.pending()) == is_unknown
            s3.discard()
            assert store.listed() == store.pending() == []
        assert at == 9
        assert len(store.content(f"there/dump/{name}")) == 20 * MEBIBYTE

    def test_sends_a_piece_again_as_boto3_is_configured_to(self, s3, store, monkeypatch):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
        object_store.close_clients(store.url)
        failed = []

        def fails_once(number, request):
            is_first = "partNumber=2" in request and not failed
            failed.extend([request] * is_first)
            return is_first

        try:
            with store.failing(fails_once):
                s3.put("x", [b"x" * MEBIBYTE] * 20)
        finally:
            monkeypatch.undo()
            object_store.close_clients(store.url)
        assert failed
        assert store.count("partNumber=2") == 2
        assert len(store.content("there/dump/x")) == 20 * MEBIBYTE

    def test_keeps_nothing_of_an_upload_that_is_interrupted(self, s3, store):
        def chunks():
            yield from [b"x" * MEBIBYTE] * 20
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            s3.put("x", chunks())
        assert store.listed() == store.pending() == []

    @pytest.mark.parametrize(
        "sizes",
        [[6, 2, 20, 1], [1, 1, 1, 1, 1, 1, 1], [1, 12, 0, 5], [5, 5, 4], [1, 2], [12], [0, 9, 9, 0]],
        ids=str,
    )
    def test_joins_parts_below_and_above_5_mib(self, s3, store, sizes):
        contents = [secrets.token_bytes(size * MEBIBYTE + 7 * (size > 0)) for size in sizes]
        names = [f"piece-{number:05}-0123abcd.csv" for number in range(len(sizes))]
        with s3.claim(resume=False, overwrite=False):
            for name, data in zip(names, contents, strict=True):
                s3.write(name, [data])
            store.asked.clear()
            s3.publish(names, b'{"file": "x.csv"}', joined="x.csv")
        assert store.content("there/dump/x.csv") == b"".join(contents)
        assert store.listed() == ["there/dump/manifest.json", "there/dump/x.csv"]
        assert store.pending() == []

    def test_reads_nothing_of_parts_that_it_can_copy(self, s3, store):
        names = [f"piece-{number:05}-0123abcd.csv" for number in range(3)]
        with s3.claim(resume=False, overwrite=False):
            for name in names:
                s3.write(name, [b"x" * 6 * MEBIBYTE])
            store.asked.clear()
            s3.publish(names, b'{"file": "x.csv"}', joined="x.csv")
        assert not [request for request in store.asked if request.startswith("GET") and "piece-" in request]
        assert store.count("partNumber=") == 3

    def test_reads_parts_that_would_be_copied_in_more_pieces_than_s3_allows(self, s3, store, monkeypatch):
        monkeypatch.setattr(s3_targets, "MOST_PIECES", 2)
        names = [f"piece-{number:05}-0123abcd.csv" for number in range(3)]
        with s3.claim(resume=False, overwrite=False):
            for name in names:
                s3.write(name, [name.encode()[:1] * 6 * MEBIBYTE])
            store.asked.clear()
            s3.publish(names, b'{"file": "x.csv"}', joined="x.csv")
        assert store.content("there/dump/x.csv") == b"p" * 18 * MEBIBYTE
        assert store.count("partNumber=") == 3  # of 8 MiB each but the last

    def test_joins_nothing_if_any_request_of_it_fails(self, s3, store, monkeypatch):
        monkeypatch.setattr(leases, "RENEWALS", 1e-3)
        names = [f"piece-{number:05}-0123abcd.csv" for number in range(3)]
        with s3.claim(resume=False, overwrite=False):
            for name, size in zip(names, [6, 2, 9], strict=True):
                s3.write(name, [b"x" * size * MEBIBYTE])
            for at in count(1):
                with store.failing(lambda number, _, at=at: number >= at), suppress(S3Error):
                    s3.publish(names, b'{"file": "x.csv"}', joined="x.csv")
                if s3.manifest():
                    break
            s3.discard()
        assert at > 8
        assert len(store.content("there/dump/x.csv")) == 17 * MEBIBYTE
        assert store.listed() == ["there/dump/manifest.json", "there/dump/x.csv"]
        assert store.pending() == []

    def test_aborts_uploads_whose_process_died_and_no_others(self, s3, store, rows):
        for key in ("there/dump/part-00000-0123abcd.csv", "there/dump/theirs.csv", "there/dump2/x", "other"):
            store.s3.create_multipart_upload(Bucket=BUCKET, Key=key)
        run(plan_dump(rows, COLUMNS, Csv(), s3, parts=2))
        assert {upload["Key"] for upload in store.pending()} == {
            "there/dump/theirs.csv",
            "there/dump2/x",
            "other",
        }

    def test_takes_a_bucket_without_a_prefix(self, store, rows):
        bucket = S3(BUCKET, "", store.url)
        run(plan_dump(rows, COLUMNS, Csv(), bucket, parts=2))
        assert verify(bucket)["rows"] == ROWS
        assert is_clean(bucket)

    def test_has_no_secret_in_its_data(self):
        with pytest.raises(TargetError, match="endpoint holds a password"):
            S3("bucket", "prefix", "https://me:secret@store.example")

    def test_that_is_missing_is_told_without_a_traceback(self, db, store, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        object_store.close_clients(None)
        try:
            with pytest.raises(CommandError, match="NoSuchBucket"):
                call_command("dump_data", "orders.Listing", "--to", "s3://nowhere-at-all/dump")
        finally:
            object_store.close_clients(None)


class TestPieces:
    @given(st.lists(st.integers(0, 60)))
    def test_of_a_join_keep_the_limits_of_s3_and_all_bytes(self, sizes):
        planned = list(multipart.slices(sizes, least=5, most=20))

        assert [(one.file, at) for piece in planned for one in piece for at in range(one.start, one.end)] == [
            (file, at) for file, size in enumerate(sizes) for at in range(size)
        ]
        assert all(sum(one.size for one in piece) >= 5 for piece in planned[:-1])
        assert all(one.size <= 20 for piece in planned for one in piece)
        assert all(len(piece) == 1 or sum(one.size for one in piece) <= 5 for piece in planned)

    def test_of_10_000_reach_5_tib_and_none_is_over_5_gib(self):
        sizes = [size for size, _ in zip(multipart.sizes(), range(10_000), strict=False)]
        assert sum(sizes) >= 5 * 1024**4
        assert 5 * MEBIBYTE <= sizes[0] == min(sizes)
        assert sizes[-1] == max(sizes) <= 5 * 1024**3

    @given(st.lists(st.binary(max_size=40)), st.integers(1, 9))
    def test_of_an_upload_are_its_bytes_in_those_sizes(self, chunks, first):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(multipart, "FIRST_PIECE", first)
            patch.setattr(multipart, "PIECES_OF_A_SIZE", 2)
            patch.setattr(multipart, "MEMORY_BYTES", 8)
            found = [(file.seek(0), file.read())[1] for file in multipart.pieces(iter(chunks))]
            sizes = [size for size, _ in zip(multipart.sizes(), found, strict=False)]
        assert b"".join(found) == b"".join(chunks)
        assert [len(piece) for piece in found[:-1]] == sizes[:-1]
        assert len(found[-1]) < sizes[-1]


class TestTheLock:
    @pytest.fixture(autouse=True)
    def frequent_renewals(self, monkeypatch):
        monkeypatch.setattr(leases, "RENEWALS", 5 * leases.LEASE_SECONDS)

    @pytest.mark.parametrize("kind", ["files", "s3"])
    def test_is_renewed_as_long_as_its_process_lives(self, kind, made):
        target = made(kind)

        def lock():
            names = [key for key in keys_of(target) if ".lock" in key]
            return names[-1:] if kind == "files" else b"".join(target.get(names[0]))

        with target.claim(resume=False, overwrite=False):
            seen = [lock()]
            while len(seen) < 4:
                assert processes.eventually(lambda: lock() != seen[-1], 60)
                seen.append(lock())
                with pytest.raises(TargetError, match="another dump is being written"):
                    target.claim(resume=False, overwrite=True).__enter__()
        target.discard()
        assert is_clean(target)

    @pytest.mark.parametrize("kind", ["files", "memory", "s3 storage", "s3"])
    def test_of_a_process_that_died_is_taken_over_after_its_lease(self, kind, made, monkeypatch):
        target = made(kind)
        died = target.locked()
        with monkeypatch.context() as patch:
            patch.setattr(leases, "renewed", lambda renew: nullcontext())
            died.__enter__()
        with pytest.raises(TargetError, match="less than 60 seconds ago"):
            target.claim(resume=False, overwrite=False).__enter__()
        monkeypatch.setattr(leases, "LEASE_SECONDS", 1)

        def is_free():
            with suppress(TargetError), target.claim(resume=False, overwrite=False):
                return True

        assert processes.eventually(is_free, 60)
        with pytest.raises(RuntimeError), target.claim(resume=False, overwrite=True):
            died.__exit__(None, None, None)  # it wakes up, and leaves the lock of the other alone
            assert any(".lock" in key for key in keys_of(target))
            raise RuntimeError
        assert is_clean(target)

    def test_that_another_process_took_over_is_not_renewed(self, s3, store):
        with s3.claim(resume=False, overwrite=False):
            theirs = store.s3.put_object(Bucket=BUCKET, Key="there/dump/.upstream-dump/.lock", Body=b"theirs")
            renewals = len(store.asked)
            assert processes.eventually(lambda: any("IF_MATCH" in one for one in store.asked[renewals:]), 60)
        assert store.content("there/dump/.upstream-dump/.lock") == b"theirs"
        assert theirs["ETag"]

    def test_is_created_on_condition_that_there_is_none(self, s3, store):
        store.asked.clear()
        with s3.claim(resume=False, overwrite=False):
            pass
        created, *renewed = [one for one in store.asked if one.startswith("PUT") and ".lock" in one]
        assert "IF_NONE_MATCH" in created
        assert all("IF_MATCH" in one for one in renewed)

    def test_is_held_though_the_answers_to_its_creation_and_a_renewal_are_lost(self, s3, store, monkeypatch):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        object_store.close_clients(store.url)
        monkeypatch.setattr(leases, "renewed", lambda renew: nullcontext(renewals.append(renew)))
        renewals, creations, changes = [], count(), count()

        def loses_first(number, request):
            if ".lock" not in request or not request.startswith("PUT"):
                return False
            return not next(creations if "HTTP_IF_NONE_MATCH" in request else changes)

        try:
            with store.failing(loses_first, answers_first=True), s3.locked():
                assert [renew() for renew in renewals * 2] == [True, True]
            assert (next(creations), next(changes)) == (2, 3)  # what was lost was asked again
            assert store.listed() == []
        finally:
            monkeypatch.undo()
            object_store.close_clients(store.url)

    def test_is_not_lost_by_a_renewal_of_which_only_the_answer_was(self, s3, store, monkeypatch):
        monkeypatch.setattr(leases, "renewed", lambda renew: nullcontext(renewals.append(renew)))
        renewals = []
        with s3.locked():
            with store.failing(lambda *_: True, answers_first=True), pytest.raises(S3Error):
                renewals[0]()
            assert renewals[0]()
            with store.failing(lambda *_: True, answers_first=True), pytest.raises(S3Error):
                renewals[0]()
        assert store.listed() == []

    def test_needs_no_server_that_knows_conditions(self, s3, store, rows, monkeypatch):
        monkeypatch.setattr(
            object_store, "FAILURE", b"<Error><Code>NotImplemented</Code><Message>A header</Message></Error>"
        )

        def another(*_):
            with pytest.raises(TargetError, match="another dump is being written"):
                s3.claim(resume=True, overwrite=False).__enter__()

        with store.failing(lambda _, request: "IF_NONE_MATCH" in request and request.startswith("PUT")):
            run(plan_dump(rows, COLUMNS, Csv(), s3, parts=2), report=another)
        assert verify(s3)["rows"] == ROWS


KILLED = """
import json, os, signal, sys
import django
django.setup()
from django.conf import settings
from django.db import connections
connections["default"].settings_dict["NAME"] = sys.argv[1]
settings.STORAGES = {**settings.STORAGES, **json.loads(sys.argv[4])}
from upstream.dumps import DumpPlan, run
def tell(number, rows, size, is_done):
    if is_done:
        print(number, flush=True)
        sys.stdin.readline()
run(DumpPlan.from_data(json.loads(sys.argv[2])), workers=int(sys.argv[3]), report=tell)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("kind", "workers"), [("s3", 0), ("s3", 2), ("files", 0), ("s3 storage", 0)], ids=str)
def test_a_killed_dump_is_resumed_without_loss_or_leftovers(kind, workers, made, store, settings, monkeypatch):
    rows, target = stored("default"), made(kind)
    plan = plan_dump(rows, COLUMNS, Json(), target, parts=6)
    name = connections["default"].settings_dict["NAME"]
    entries = json.dumps({kind: settings.STORAGES[kind]} if kind != "s3" else {}, default=str)
    process = processes.start(
        *("-c", KILLED, name, json.dumps(plan.as_data()), workers, entries),
        variables={"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=-1,
        stdout=-1,
    )
    try:
        for _ in range(2):
            assert process.stdout.readline()
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
    assert target.manifest() is None
    assert "plan" in target.names()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)

    assert resumed(target)["rows"] == ROWS

    assert processes.eventually(
        lambda: is_clean(target) and not store.pending(), 60
    )  # a worker may write to its end
    assert verify(target)["rows"] == ROWS
    assert content(target) == exported(rows, Json())


class VendorError(Exception):
    __module__ = "vendor.errors"


class VendorGoneError(FileNotFoundError):
    __module__ = "vendor.errors"


@pytest.mark.parametrize("kind", ["memory", "s3 storage"])
class TestErrorsOfStorages:
    """Only what a storage's own library raises becomes an OSError, for which a part runs again."""

    @pytest.fixture
    def failing(self, made, kind, monkeypatch):
        """Return a target, and what makes its storage save and open nothing but raise an error."""

        def fail(error):
            def raised(*_):
                raise error

            for method in ("_save", "_open"):
                monkeypatch.setattr(type(storages[kind]), method, raised)

        target = made(kind)
        with target.claim(resume=False, overwrite=False):
            yield target, fail
            monkeypatch.undo()

    def test_its_librarys_are_oserrors_with_their_words(self, failing):
        target, fail = failing
        target.put("y", [b"y"])
        fail(VendorError("no room"))
        for use in (lambda: target.put("x", [b"x"]), lambda: list(target.get("y"))):
            with pytest.raises(OSError, match="the storage has failed with VendorError: no room") as raised:
                use()
            assert not isinstance(raised.value, ExportError)  # which would not run again
            assert isinstance(raised.value.__cause__, VendorError)

    def test_a_mistake_in_code_is_itself(self, failing):
        target, fail = failing
        fail(TypeError("a mistake"))
        with pytest.raises(TypeError, match="a mistake"):
            target.put("x", [b"x"])

    def test_an_error_of_the_source_is_itself(self, failing):
        def chunks():
            yield b"x"
            raise VendorError("of the source")

        target, _ = failing
        with pytest.raises(VendorError, match="of the source"):
            target.put("x", chunks())
        assert not target.exists("x")

    def test_a_kind_of_oserror_stays_what_it_is(self, failing):
        target, fail = failing
        target.put("manifest.json", [b"{}"])
        fail(VendorGoneError("gone"))
        assert target.manifest() is None


class TestTheCommands:
    @pytest.fixture
    def endpoint(self, store, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        yield
        object_store.close_clients(None)

    @pytest.mark.parametrize(
        "place",
        [f"s3://{BUCKET}/a/dump", "storage:files/a/dump", "storage:s3 storage/a"],
        ids=["s3", "files", "s3 storage"],
    )
    def test_dump_to_a_place_and_verify_it(self, place, rows, made, endpoint, capsys):
        options = ["--format", "csv.gz", "--parts", "3", "--verify"]
        call_command("dump_data", "orders.Listing", "--to", place, "--columns", ",".join(COLUMNS), *options)
        with pytest.raises(CommandError, match="a dump is there"):
            call_command("dump_data", "orders.Listing", "--to", place)
        call_command("dump_data", "orders.Listing", "--to", place, "--overwrite", "--one-file", "--order-by=id")
        call_command("verify_dump", place)

        first, _, third = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{place}: {ROWS} rows in 3 parts")
        assert third == f"{place}: verified, {ROWS} rows of orders.Listing"
        target = target_named(place)
        assert content(target) == exported(rows, columns=None)
        assert is_clean(target)

    def test_resume_on_s3_what_was_interrupted(self, rows, store, endpoint, monkeypatch, capsys):
        place = f"s3://{BUCKET}/dump"
        with store.failing(lambda _, request: "part-00002" in request), pytest.raises(CommandError) as failed:
            call_command("dump_data", "orders.Listing", "--to", place, "--parts", "4")
        assert f"--to {place} --resume continues" in str(failed.value)

        call_command("dump_data", "--to", place, "--resume", "--verify")
        assert f"{ROWS} rows in 4 parts" in capsys.readouterr().out
        assert is_clean(target_named(place))

    def test_tell_what_the_library_of_a_storage_says(self, rows, made, store, capsys):
        dump = ["dump_data", "orders.Listing", "--to", "storage:s3 storage/a", "--parts", "4"]
        with store.failing(lambda _, request: "part-00002" in request), pytest.raises(CommandError) as failed:
            call_command(*dump)
        assert "the storage has failed with ClientError: An error occurred (" in str(failed.value)
        assert str(failed.value).endswith("--to storage:s3 storage/a --resume continues")
        call_command("dump_data", "--to", "storage:s3 storage/a", "--resume")
        assert f"{ROWS} rows in 4 parts" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("text", "target"),
        [
            ("s3://b/a/c", S3("b", "a/c")),
            ("s3://b", S3("b", "")),
            ("s3:/b/a/", S3("b", "a")),
            ("storage:default/a", StorageTarget("default", "a")),
            ("storage:default", StorageTarget("default")),
            ("a/b", Directory("a/b")),
            ("./storage:a", Directory("./storage:a")),
        ],
    )
    def test_name_targets(self, text, target):
        assert target_named(text) == target

    def test_refuse_a_storage_that_is_not_in_the_settings(self, rows):
        with pytest.raises(CommandError, match="nope"):
            call_command("dump_data", "orders.Listing", "--to", "storage:nope/dump")


@pytest.mark.heavy_with("s3 storage")
class TestFolders:
    """Of models, in a dump of several, or of files that are whole themselves."""

    def dumped(self, rows, target, encoder=None, **options):
        return plan_site([rows.model, Buyer], encoder or Json(), target, parts=3, uncut_rows=10, **options)

    def content(self, target, table):
        return b"".join(chunk for part in table["parts"] for chunk in target.read_published(part["name"]))

    def test_hold_the_parts_of_each_model_on_any_target(self, rows, target):
        manifest = run(self.dumped(rows, target))
        assert self.content(target, manifest["models"][0]) == b"".join(stream(rows.order_by("id"), None, Json()))
        assert {name.partition("/")[0] for name in target.published()} == {"orders.listing", "orders.buyer"}
        assert verify(target) == manifest
        assert is_clean(target)

    def test_are_replaced_by_another_dump(self, rows, target):
        run(self.dumped(rows, target))
        with pytest.raises(TargetError, match=r"not empty|is there"):
            run(self.dumped(rows, target))
        manifest = run(self.dumped(rows, target), overwrite=True)
        assert verify(target) == manifest
        assert is_clean(target)
        manifest = run(plan_dump(rows, COLUMNS, Csv(), target, parts=2), overwrite=True)
        assert verify(target) == manifest
        assert is_clean(target)

    def test_hold_what_is_resumed(self, rows, target):
        with pytest.raises(RuntimeError):
            run(self.dumped(rows, target), report=fails_at(2))
        assert target.manifest() is None
        manifest = resume(target)
        assert verify(target) == manifest
        assert is_clean(target)

    @pytest.mark.parametrize("joined", [False, True], ids=["parts", "one file"])
    @pytest.mark.parametrize("encoder", [Parquet(), Xlsx()], ids=["parquet", "xlsx"])
    def test_or_one_file_hold_files_that_are_whole(self, rows, target, encoder, joined):
        manifest = run(plan_dump(rows, COLUMNS, encoder, target, parts=3, joined=joined))
        assert len(target.published()) == (1 if joined else 3)
        assert verify(target) == manifest
        assert is_clean(target)

    def test_that_somebody_else_has_filled_are_refused(self, rows, objects):
        objects.put("orders.listing/theirs.txt", [b"x"])
        with pytest.raises(TargetError, match=r"no dump has written, such as 'orders.listing/theirs.txt'"):
            run(self.dumped(rows, objects))
        objects.delete(["orders.listing/theirs.txt"])


FEW, MANY = 20_000, 400_000
MEASURED = """
import json, sys
import django
django.setup()
from benchmarks.memory import peak_bytes
from tests.serving.models import Line
from upstream.dumps import S3, plan_dump, run
from upstream.streaming import JsonLines

bucket, url, rows, options = json.loads(sys.argv[1])
source = Line.objects.using("sqlite").filter(id__lte=rows)
columns = ["id", ("text", "a header of a column " * 20)]  # 500 bytes in each row
manifest = run(plan_dump(source, columns, JsonLines(), S3(bucket, f"{rows}", url), **options))
print(peak_bytes(), manifest["rows"], manifest["bytes"])
"""


@pytest.mark.heavy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
@pytest.mark.parametrize("options", [{"parts": 1}, {"parts": 4, "joined": True}], ids=["one part", "joined"])
def test_memory_does_not_grow_with_what_is_sent_to_s3(options, store, tmp_path):
    path = tmp_path / "lines.sqlite3"
    sizes = {"rows": MANY, "wide_bytes": 2, "wide_rows": 1}
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(databases.SQLITE.format(**sizes))
    variables = databases.variables({"sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}})

    def peak(rows):
        given = json.dumps([BUCKET, store.url, rows, options])
        peak, written, size = map(int, processes.printed(MEASURED, given, variables=variables).split())
        assert written == rows
        assert size > rows * 450
        return peak

    assert peak(MANY) - peak(FEW) < 2 * multipart.FIRST_PIECE  # one is sent while the next begins
