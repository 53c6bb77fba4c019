"""Catches every queryset that a test evaluates, exports it in every way, and compares."""

import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import TestCase

from django.db import connections, transaction
from django.db.models.query import QuerySet, RawQuerySet

from tests.django_suite.exports import FORMATS, MOST_WINDOWED, DifferentError, Way, further_ways, way_in
from tests.django_suite.findings import Difference, Findings
from tests.django_suite.given import Given, UnknownError, given, own, related, same_text
from tests.django_suite.ties import group_sizes
from tests.forced_lanes import LANES
from upstream.streaming import ExportError

# What an export may set on a PostgreSQL connection, and must put back.
SESSION = """
SELECT current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('extra_float_digits'),
    current_setting('cursor_tuple_fraction'), current_setting('statement_timeout'),
    current_setting('transaction_read_only'), (SELECT count(*) FROM pg_cursors WHERE name LIKE 'upstream%')
"""

# What tells that rows differ in one way, and not in another.
TOLD_BY: dict[str, Any] = {"rows": len, "cells": sorted, "order": list}


class Watcher:
    """Exports what tests evaluate. `install()` puts it in place of Django's own fetching."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.test = ""
        self._inside = threading.local()
        self._seen: set[int] = set()

    def install(self) -> None:
        for kind in (QuerySet, RawQuerySet):
            kind._fetch_all = self._fetching(kind._fetch_all)  # type: ignore[attr-defined]

    def note_tests(self) -> None:
        """Count the tests, and note which fail."""
        run = TestCase.run

        def run_test(test: Any, result: Any = None) -> Any:
            self.test = test.id()
            self.findings.counts["tests"] += 1
            before = len(result.failures) + len(result.errors)
            try:
                return run(test, result)
            finally:
                if len(result.failures) + len(result.errors) > before:
                    self.findings.failed.append(self.test)

        TestCase.run = run_test  # type: ignore[method-assign]

    def _fetching(self, fetch: Any) -> Any:
        def _fetch_all(queryset: Any) -> None:
            is_new = queryset._result_cache is None and not getattr(self._inside, "value", False)
            if not is_new:
                fetch(queryset)
                return
            with _asked_once(queryset):
                before = own(queryset)  # evaluating a union changes its query
                fetch(queryset)
            self._inside.value = True
            try:
                self._evaluated(before, list(queryset._result_cache))
            finally:
                self._inside.value = False

        return _fetch_all

    def _evaluated(self, queryset: Any, rows: list[Any]) -> None:
        connection = connections[queryset.db]
        with _unseen():
            try:
                _check_usable(queryset, connection)
                expected = given(queryset, rows)
                is_repeated = self._is_repeated(queryset, expected)
            except UnknownError as why:
                self.findings.counts[f"left out: {why}"] += 1
                return
            self.findings.counts["querysets"] += 1
            if is_repeated:
                self.findings.counts["left out: the same rows of the same query"] += 1
                return
            before = _state(connection)
            self._export_all(queryset, expected)
            if (after := _state(connection)) != before:
                self._differ("connection", f"{before} became {after}", queryset)

    def _is_repeated(self, queryset: Any, expected: Given | None) -> bool:
        kind = getattr(queryset, "_iterable_class", None)
        seen = hash((_sql(queryset), kind, repr(queryset._prefetch_related_lookups), repr(_texts(expected))))
        is_repeated = seen in self._seen
        self._seen.add(seen)
        return is_repeated

    def _export_all(self, queryset: Any, expected: Given | None) -> None:
        self._export_shape("whole", queryset, expected)
        if expected and len(expected.names) > 1:
            self._export_shape("halved", queryset, expected.halved())
        try:
            through = related(queryset, list(own(queryset)))
        except Exception:  # noqa: BLE001 (Django cannot follow them itself)
            self.findings.counts["left out: relations that Django cannot follow"] += 1
            return
        if through:
            self._export_shape("related", queryset, through)

    def _export_shape(self, shape: str, queryset: Any, expected: Given | None) -> None:
        is_whole = shape == "whole"
        columns = None if is_whole or not expected else expected.names
        for name in FORMATS:
            slower = list(LANES)
            for lane in LANES:
                if lane in slower:  # one that was asked for and is not there is another one
                    taken = self._export(shape, way_in(lane, name, columns), queryset, expected)
                    slower = slower[slower.index(taken) + 1 :]
        if expected:
            windowed = not isinstance(queryset, RawQuerySet) and len(expected.rows) <= MOST_WINDOWED
            for way in further_ways(expected.names, is_whole=is_whole, windowed=windowed):
                self._export(shape, way, queryset, expected)

    def _export(self, shape: str, way: Way, queryset: Any, expected: Given | None) -> str:
        """Export and compare; return the lane that was taken."""
        using, lane = queryset.db, way.lane

        def tied() -> list[int]:
            self.findings.counts["in another order than Django's"] += 1
            return group_sizes(queryset, len(expected.rows) if expected else 0)

        try:
            with _savepoint(using):
                chunks = way.open(own(queryset))
                data = b"".join(chunks)
                lane = chunks.lane if lane in LANES else lane
                way.compare(data, expected, tied)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what differs)
            self._failed(error, f"{shape} {way.format} {lane}", queryset, shape, expected)
        self.findings.counts[f"{shape} {lane}"] += 1
        return lane

    def _failed(self, error: Exception, where: str, queryset: Any, shape: str, expected: Given | None) -> None:
        is_refusal = isinstance(error, ExportError)
        kind = "refusal" if is_refusal else getattr(error, "kind", type(error).__name__)
        unstable = "" if is_refusal else self._unstable(kind, queryset, shape, expected)
        at = "" if isinstance(error, DifferentError) else _frame(error)
        message = " ".join([str(error), *getattr(error, "__notes__", [])])
        self._differ(kind, message, queryset, where, at, unstable)

    def _unstable(self, kind: str, queryset: Any, shape: str, expected: Given | None) -> str:
        """Say whether Django itself differs in the same way, or fails, when it is asked again; "" if not."""
        told_by = TOLD_BY.get(kind)
        try:
            with _savepoint(queryset.db):
                for rows in (list(own(queryset)), list(own(queryset).iterator(2000))):
                    again = related(queryset, rows) if shape == "related" else given(queryset, rows)
                    again = again.halved() if again and shape == "halved" else again
                    if told_by and told_by(_texts(again) or []) != told_by(_texts(expected) or []):
                        return f"Django gives other {kind} when it is asked again"
        except Exception:  # noqa: BLE001 (told from the export's)
            return "Django fails when it is asked again"
        return ""

    def _differ(
        self, kind: str, message: str, queryset: Any, where: str = "", at: str = "", unstable: str = ""
    ) -> None:
        self.findings.add(
            Difference(
                kind=kind,
                message=message[:1500],
                test=self.test,
                where=where,
                sql=_sql(queryset)[:1500],
                at=at,
                unstable=unstable,
            )
        )


@contextmanager
def _asked_once(queryset: Any) -> Iterator[None]:
    """Fix the database of a queryset: the router answers for its exports too, and tests count what it is asked."""
    chosen = queryset._db
    queryset._db = queryset.db
    try:
        yield
    finally:
        queryset._db = chosen


def _sql(queryset: Any) -> str:
    try:
        return str(queryset.raw_query if isinstance(queryset, RawQuerySet) else own(queryset).query)
    except Exception as error:  # noqa: BLE001 (of a query that Django does not compile)
        return f"{type(error).__name__}: {error}"


def _texts(rows: Given | None) -> Any:
    try:
        return rows and [same_text(row) for row in rows.cells()]
    except Exception as error:
        raise UnknownError("a value that has no text") from error


def _check_usable(queryset: Any, connection: Any) -> None:
    if hasattr(queryset.query, "own_statement"):  # a test that prints garbage evaluates the querysets in it
        raise UnknownError("an export made it")
    if hasattr(connection.cursor, "message"):  # Django's guard around a test without databases
        raise UnknownError("its test has no database")
    if connection.in_atomic_block and connection.needs_rollback:
        raise UnknownError("its transaction is broken")
    if not connection.in_atomic_block and not connection.get_autocommit():
        raise UnknownError("its connection does not commit by itself")


def _savepoint(using: str) -> Any:
    return transaction.atomic(using=using) if connections[using].in_atomic_block else nullcontext()


@contextmanager
def _unseen() -> Iterator[None]:
    """Keep statements out of the sight of tests that count them."""
    logs = {one: (one.force_debug_cursor, list(one.queries_log)) for one in connections.all(initialized_only=True)}
    for one in logs:
        one.force_debug_cursor = False
    try:
        yield
    finally:
        for one, (forced, log) in logs.items():
            one.force_debug_cursor = forced
            one.queries_log.clear()
            one.queries_log.extend(log)


def _state(connection: Any) -> list[Any]:
    state = [
        connection.in_atomic_block,
        list(connection.savepoint_ids),
        connection.needs_rollback,
        connection.autocommit,
        len(connection.execute_wrappers),
        len(connection.run_on_commit),
    ]
    if connection.vendor == "postgresql" and connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute(SESSION)
            state += cursor.fetchone()
    return state


def _frame(error: Exception) -> str:
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/upstream/streaming/" in frame.filename
    ]
    name = re.sub(r".*/upstream/", "", ours[-1].filename) if ours else ""
    return f"{name}:{ours[-1].lineno} {ours[-1].name}" if ours else ""
