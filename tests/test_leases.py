"""A download's place: kept as long as it runs, whatever it waits for, and given back however it ends."""

import gc
import json
import socket
import threading
from contextlib import closing

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connections, transaction

from tests import services
from tests.asking import Told, ask, refused
from tests.processes import eventually
from tests.serving import databases
from tests.serving.running import COMMANDS, connect, get, serving
from tests.test_limits import limited, numbers
from upstream.integrations import limits as limits_module
from upstream.integrations.limits import BusyError, Limits, Slots
from upstream.integrations.views import ExportView
from upstream.models import Customer

pytestmark = pytest.mark.usefixtures("answers")
DELIVERIES = ["live", "spooled"]


def pause(seconds):
    threading.Event().wait(seconds)


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr(limits_module, "LEASE_SECONDS", 0.6)
    cache.clear()
    yield
    cache.clear()


def is_taken(rf, alias="default"):
    slots = Slots(Limits(total=1, cache=alias), rf.get("/"))
    try:
        slots.take()
    except BusyError:
        return True
    slots.free()
    return False


@pytest.mark.usefixtures("short_lease")
class TestKept:
    @pytest.mark.parametrize("spool", [False, True], ids=DELIVERIES)
    def test_while_its_client_does_not_read(self, spool, rf):
        view = numbers(total=1)
        view.spool = spool
        response = ask(view)
        next(iter(response))
        pause(1.5)
        assert is_taken(rf)
        response.close()
        assert not is_taken(rf)

    def test_while_it_is_spooled(self, rf):
        began, let_go = threading.Event(), threading.Event()

        def slow():
            began.set()
            let_go.wait(20)
            yield {"n": 1}

        view = numbers(slow, total=1)
        view.spool = True
        thread = threading.Thread(target=lambda: ask(view).close())
        thread.start()
        assert began.wait(20)
        pause(1.5)
        assert is_taken(rf)
        let_go.set()
        thread.join()
        assert not is_taken(rf)

    def test_when_the_cache_drops_it_to_make_room(self, rf):
        response = ask(numbers(total=1))
        cache.clear()
        assert eventually(lambda: cache.get("upstream:export:all:0"), 5)
        assert is_taken(rf)
        response.close()

    def test_no_longer_than_its_response_lives(self, rf):
        view = numbers(total=1)
        with Told(view) as told:
            request = rf.get("/x")
            response = view.as_view()(request)
            del response
            gc.collect()
            assert told[-1][1]["outcome"] == "aborted"
        assert not is_taken(rf)

    def test_no_thread_is_left_when_all_have_ended(self):
        ask(numbers(total=1)).close()
        assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "upstream-leases"], 5)


class CacheRouter:
    """Keeps the cache's table in one database."""

    alias = "default"

    def db_for_read(self, model, **_):
        return self.alias if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read

    def allow_migrate(self, alias, app_label, **_):
        return alias == self.alias if app_label == "django_cache" else None


@pytest.fixture
def cache_in_database(transactional_database, settings):
    """A cache in a table of each database."""
    CacheRouter.alias = transactional_database
    settings.DATABASE_ROUTERS = [f"{__name__}.CacheRouter"]
    location = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "places"}
    settings.CACHES = {"default": location}
    call_command("createcachetable", database=transactional_database, verbosity=0)
    yield transactional_database
    with connections[transactional_database].cursor() as cursor:
        cursor.execute("DROP TABLE places")


class TestCaches:
    @pytest.fixture(params=["memory", "files", "redis"])
    def kind(self, request, settings, tmp_path):
        files = tmp_path / "a" / "cache"
        backends = {
            "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "files": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(files)},
        }
        if request.param in backends:
            settings.CACHES = {"default": backends[request.param]}
            yield
            cache.clear()
            return
        with services.redis() as (url, reason):
            if url is None:
                pytest.skip(reason)
            settings.CACHES = {
                "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
            }
            yield
            cache.close()

    @pytest.mark.heavy_with("files", "memory")
    def test_a_place_is_kept_and_given_back(self, kind, rf, monkeypatch):
        self.outlives_its_lease(rf, monkeypatch, lambda: ask(numbers(total=1)))

    def test_no_more_get_in_than_may_however_many_come_at_once(self, kind, rf):
        found, barrier = [], threading.Barrier(12)

        def come():
            slots = Slots(Limits(total=3), rf.get("/"))
            barrier.wait()
            try:
                slots.take()
            except BusyError:
                found.append("busy")
            else:
                found.append("in")
            cache.close()

        threads = [threading.Thread(target=come) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == ["busy"] * 9 + ["in"] * 3

    def test_a_place_in_the_database_that_is_exported(self, cache_in_database, rf, monkeypatch):
        # While SQLite reads, nobody else can write: there all rows are read with the first chunk.
        rows = 50 if connections[cache_in_database].vendor == "sqlite" else 3000
        Customer.objects.using(cache_in_database).bulk_create(Customer(name=str(n)) for n in range(rows))
        members = {"queryset": Customer.objects.using(cache_in_database), "permission": None}
        view = type("Served", (ExportView,), {**members, "export_limits": Limits(total=1)})
        self.outlives_its_lease(rf, monkeypatch, lambda: ask(view))

    def outlives_its_lease(self, rf, monkeypatch, begin):
        monkeypatch.setattr(limits_module, "LEASE_SECONDS", 2)  # Redis and databases count in whole seconds
        response = begin()
        next(iter(response))
        pause(3.5)
        assert is_taken(rf)
        response.close()
        assert not is_taken(rf)

    def test_a_place_taken_in_a_transaction_is_seen_by_others_at_once(self, cache_in_database, rf):
        if connections[cache_in_database].vendor == "sqlite":
            pytest.skip("others cannot write while a transaction of SQLite's does")
        slots, found = Slots(Limits(total=1), rf.get("/")), []
        with transaction.atomic(using=cache_in_database):
            Customer.objects.using(cache_in_database).create(name="x")
            slots.take()
            thread = threading.Thread(target=self.look, args=(found, rf, cache_in_database))
            thread.start()
            thread.join(20)
            slots.free()
        assert found == [True]
        assert not is_taken(rf)

    def look(self, found, rf, alias):
        found.append(is_taken(rf))
        connections[alias].close()

    def test_names_that_no_key_may_have(self, settings, rf):
        for name in ("with spaces", "x" * 300, "line\nfeed", "日本", "lone \ud800"):
            slots = Slots(Limits(per_user=1, who=lambda request, name=name: name), rf.get("/"))
            slots.take()  # warnings are errors
            slots.free()


class TestWho:
    def test_a_hook_says_who_asks(self, customers):
        cache.clear()
        view = limited(per_user=1, who=lambda request: request.headers.get("X-Client", ""))
        first = ask(view, HTTP_X_CLIENT="a")
        refused(ask(view, HTTP_X_CLIENT="a"), 429)
        assert ask(view, HTTP_X_CLIENT="b").status_code == 200
        first.close()

    def test_it_may_be_named_in_the_settings(self, settings, rf):
        settings.UPSTREAM_EXPORT_LIMITS = {"per_user": 1, "who": f"{__name__}.agent"}
        assert Limits.of_site().name_of(rf.get("/", headers={"User-Agent": "x"})) == "x"

    @pytest.mark.parametrize(
        ("address", "forwarded", "name"),
        [
            ("127.0.0.1", "203.0.113.9", "at:203.0.113.9"),
            ("", "198.51.100.1, 203.0.113.9", "at:203.0.113.9"),  # the first may be forged
            ("::1", "", "at:::1"),
            ("192.0.2.1", "203.0.113.9", "at:192.0.2.1"),
        ],
    )
    def test_only_a_proxy_on_this_machine_is_believed(self, rf, address, forwarded, name):
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        assert Limits().name_of(rf.get("/", REMOTE_ADDR=address, headers=headers)) == name


def agent(request):
    return request.headers["User-Agent"]


SLOW = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)"
    " SELECT count(*) FROM n) > 0",
    "postgresql": "pg_sleep(20) IS NOT NULL",
    "mysql": "sleep(20) = 0",
}


def test_counting_the_rows_is_part_of_the_time(transactional_database):
    alias = transactional_database
    Customer.objects.using(alias).create(name="a")
    rows = Customer.objects.using(alias).extra(where=[SLOW[connections[alias].vendor]])
    members = {"queryset": rows, "permission": None, "export_limits": Limits(rows=5, seconds=0.3)}
    assert "timeout" in refused(ask(type("Slow", (ExportView,), members)), 429)
    assert Customer.objects.using(alias).count() == 1  # the connection is as it was


# On real servers


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, tmp_path_factory):
    with (
        databases.databases(tmp_path_factory.mktemp("leases"), 10) as entries,
        serving(request.param, entries) as port,
    ):
        yield port


def begin(server, url):
    """Ask for a download, and leave its body unread."""
    connection = connect(server)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.connect(("127.0.0.1", server))
    connection.request("GET", url)
    return connection


def outcomes(server, number):
    """Wait until so many downloads have ended, and return how."""
    told = []

    def are_told():
        told.extend(json.loads(get(server, "/outcomes")[2]))
        return len(told) >= number

    assert eventually(are_told, 10)
    return told


@pytest.mark.heavy_with("uvicorn")
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_client_that_does_not_read_is_ended_when_its_time_is_over(server, delivery):
    url = f"/timed?delivery={delivery}"
    with closing(begin(server, url)) as connection:
        assert connection.getresponse().status == 200
        assert get(server, url)[0] == 429
        assert outcomes(server, 2) == ["refused", "failed"]
        assert get(server, url)[0] == 200
    assert outcomes(server, 1) == ["complete"]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_client_that_leaves_before_the_first_row_gives_its_place_back(server, delivery):
    with closing(begin(server, f"/gated-download?delivery={delivery}")):
        assert get(server, "/is-gated")[2] == b"True"
    get(server, "/open")
    outcomes(server, 1)  # "complete" if the server took the few bytes
    assert get(server, "/timed?delivery=spooled")[0] == 200
    assert outcomes(server, 1) == ["complete"]


@pytest.mark.parametrize("instead", ["error", "answer"])
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_response_that_is_never_sent_gives_its_place_back(server, delivery, instead):
    for _ in range(2):
        status = get(server, f"/timed?delivery={delivery}&instead={instead}")[0]
        assert status == {"error": 500, "answer": 203}[instead]
        assert outcomes(server, 1) == ["aborted"]
