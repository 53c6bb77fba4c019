"""What downloads may take: at a time, and each of them."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient
from django.urls import path

from tests.asking import Told, ask, refused, rows, text
from tests.handling import asgi
from tests.test_views import Customers, failing_rows
from upstream.integrations import limits as limits_module
from upstream.integrations.downloads import download
from upstream.integrations.limits import BusyError, Limits, Slots
from upstream.integrations.views import ExportView
from upstream.models import Customer
from upstream.streaming import Csv

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("answers")]


@pytest.fixture(autouse=True)
def empty_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def users(django_user_model):
    return [django_user_model.objects.create(username=name) for name in "ab"]


def limited(view=Customers, **limits):
    return type("Limited", (view,), {"export_limits": Limits(**limits)})


def numbers(source=None, **limits):
    def get_queryset(self):
        return source() if source else ({"n": n} for n in range(20_000))

    members = {"get_queryset": get_queryset, "permission": None, "export_limits": Limits(**limits)}
    return type("Numbers", (ExportView,), members)


@pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
def test_a_request_that_ended_before_its_view_keeps_no_place(serve, spool):
    view = numbers(total=1)
    view.spool = spool
    serve(view.as_view(), middleware=["tests.handling.slipping"])
    with Told(view) as told:
        asyncio.run(asgi())
    # Django 5.2 does not call the view at all.
    assert [details.get("outcome") for _, details in told] in ([None, "aborted"], [])
    assert rows(ask(view))[0] == ["n"]


@pytest.mark.usefixtures("customers")
class TestConcurrency:
    def test_a_user_may_run_so_many_at_a_time(self, users):
        view = limited(per_user=2)
        running = [ask(view, user=users[0]) for _ in range(2)]
        answer = ask(view, user=users[0])
        assert "2 exports are running already" in refused(answer, 429)
        assert answer["Retry-After"] == "30"
        other = ask(view, user=users[1])
        assert len(rows(other)) == 4
        running.pop().close()
        assert len(rows(ask(view, user=users[0]))) == 4
        running.pop().close()

    def test_all_users_together_may_run_so_many(self, users):
        view = limited(per_user=5, total=2, retry_after=7)
        running = [ask(view, user=user) for user in users]
        answer = ask(view)
        assert "2 exports" in refused(answer, 429)
        assert answer["Retry-After"] == "7"
        for response in running:
            response.close()
        assert len(rows(ask(view))) == 4

    def test_who_is_refused_takes_no_place(self, users):
        view = limited(per_user=2, total=1)
        running = ask(view, user=users[0])
        for _ in range(5):
            refused(ask(view, user=users[0]), 429)
        running.close()
        assert len(rows(ask(view, user=users[0]))) == 4

    def test_visitors_who_are_not_logged_in_count_by_their_address(self):
        view = limited(per_user=1)
        running = ask(view, REMOTE_ADDR="10.0.0.1")
        refused(ask(view, REMOTE_ADDR="10.0.0.1"), 429)
        assert len(rows(ask(view, REMOTE_ADDR="10.0.0.2"))) == 4
        running.close()

    @pytest.mark.parametrize("spool", [True, False], ids=["spooled", "live"])
    def test_an_error_frees_its_place(self, spool):
        view = numbers(failing_rows, per_user=1)
        view.spool = spool
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                ask(view, "?format=ndjson").getvalue()

    def test_head_takes_no_place(self):
        view = limited(per_user=1)
        running = ask(view)
        assert ask(view, method="head").status_code == 200
        running.close()

    def test_a_killed_download_holds_its_place_no_longer_than_its_lease(self, monkeypatch, rf):
        monkeypatch.setattr(limits_module, "LEASE_SECONDS", 0.2)
        request = rf.get("/")
        killed = Slots(Limits(total=1), request)
        killed.take()
        with pytest.raises(BusyError):
            Slots(Limits(total=1), request).take()
        threading.Event().wait(0.3)
        other = Slots(Limits(total=1), request)
        other.take()
        killed.free()  # what it held is another's by now
        with pytest.raises(BusyError):
            Slots(Limits(total=1), request).take()
        other.free()

    def test_a_download_that_is_read_keeps_its_place_beyond_a_lease(self, monkeypatch, rf):
        monkeypatch.setattr(limits_module, "LEASE_SECONDS", 0.4)
        slots = Slots(Limits(total=1), rf.get("/"))
        slots.take()
        for _ in range(12):
            threading.Event().wait(0.06)
            slots.renew()
        with pytest.raises(BusyError):
            Slots(Limits(total=1), rf.get("/")).take()
        slots.free()

    @pytest.mark.parametrize("method", ["get", "delete"])
    def test_a_cache_that_fails_breaks_no_download_that_is_under_way(self, monkeypatch, caplog, method):
        def fail(*_args, **_kwargs):
            raise ConnectionError("the cache")

        answer = ask(limited(total=1))
        monkeypatch.setattr(type(cache._connections[cache._alias]), method, fail)
        assert len(rows(answer)) == 4
        assert "the cache that counts running exports fails" in caplog.text

    def test_a_cache_that_fails_lets_no_download_begin(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise ConnectionError("the cache")

        monkeypatch.setattr(type(cache._connections[cache._alias]), "add", fail)
        with pytest.raises(ConnectionError):
            ask(limited(total=1))

    def test_no_more_than_so_many_get_in_however_many_come_at_once(self, rf):
        results = []
        barrier = threading.Barrier(20)

        def come():
            slots = Slots(Limits(total=3), rf.get("/"))
            barrier.wait()
            try:
                slots.take()
            except BusyError:
                results.append("busy")
            else:
                results.append("in")

        threads = [threading.Thread(target=come) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["busy"] * 17 + ["in"] * 3


@pytest.mark.usefixtures("customers")
class TestSize:
    def test_too_many_rows_are_refused_before_any_is_read(self, django_assert_num_queries):
        view = limited(rows=2)
        with django_assert_num_queries(1) as queries:
            assert "more than 2 rows" in refused(ask(view), 429)
        assert "COUNT" in queries[0]["sql"]
        assert len(rows(ask(limited(rows=3)))) == 4

    def test_rows_of_a_slice_are_counted(self):
        class Sliced(Customers):
            queryset = Customer.objects.order_by("id")[:2]

        assert len(rows(ask(limited(Sliced, rows=2)))) == 3
        refused(ask(limited(Sliced, rows=1)), 429)

    def test_a_spooled_download_that_is_too_large_is_refused(self):
        view = numbers(bytes=50_000)
        view.spool = True
        with Told(view) as told:
            assert "more than 50,000 bytes" in refused(ask(view), 429)
        assert [(name, details.get("outcome")) for name, details in told][-1] == ("failed", "refused")

    @pytest.mark.parametrize("limits", [{"rows": 5000}, {"bytes": 50_000}], ids=["rows", "bytes"])
    def test_a_live_download_that_grows_too_large_breaks_off(self, limits):
        view = numbers(**limits)
        response = ask(view)
        received = []
        with pytest.raises(Exception, match="more than"):
            received.extend(response)
        assert 0 < len(b"".join(received)) <= limits.get("bytes", 50_000)

    def test_a_download_that_takes_too_long_is_refused_or_breaks_off(self):
        def slow():
            for n in range(1000):
                threading.Event().wait(0.01)
                yield {"n": n}

        spooled = numbers(slow, seconds=0.2)
        spooled.spool = True
        assert "timeout" in refused(ask(spooled), 429)
        with pytest.raises(TimeoutError):
            ask(numbers(slow, seconds=0.3)).getvalue()


class TestSetting:
    def test_limits_of_the_site_are_for_every_download(self, settings):
        settings.UPSTREAM_EXPORT_LIMITS = {"rows": 1}
        Customer.objects.bulk_create([Customer(name=name) for name in "abc"])
        refused(ask(Customers), 429)

    def test_a_view_has_its_own_instead(self, settings):
        settings.UPSTREAM_EXPORT_LIMITS = {"rows": 1}
        Customer.objects.bulk_create([Customer(name=name) for name in "abc"])
        assert len(rows(ask(limited(rows=5)))) == 4

    @pytest.mark.parametrize("given", [{"row": 1}, {"rows": 0}, {"rows": "5"}, {"total": -1}, {"per_user": True}])
    def test_what_is_no_limit_is_told(self, settings, given):
        settings.UPSTREAM_EXPORT_LIMITS = given
        with pytest.raises(ImproperlyConfigured, match=next(iter(given))):
            ask(Customers)


def test_a_download_without_limits_asks_the_cache_nothing(settings, monkeypatch):
    def fail(*_args, **_kwargs):
        raise AssertionError("the cache was asked")

    monkeypatch.setattr(type(cache._connections[cache._alias]), "add", fail)
    text(ask(Customers))


async def lines_of_an_asynchronous_view(request):
    rows = Customer.objects.order_by("name")
    limits = Limits(total=1, rows=5)
    return await sync_to_async(download)(
        request, rows, ["name"], Csv(), "customers.csv", sender=Customer, limits=limits
    )


urlpatterns = [path("lines/", lines_of_an_asynchronous_view)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
class TestFromAnAsynchronousView:
    """`download` is called with `sync_to_async`, as the guide says."""

    def ask(self):
        async def ask():
            answer = await AsyncClient().get("/lines/")
            body = b"".join([chunk async for chunk in answer]) if answer.streaming else answer.content
            return answer.status_code, body

        return asyncio.run(ask())

    def test_rows_come_and_both_signals_are_sent(self):
        Customer.objects.bulk_create(Customer(name=name) for name in "ab")
        with Told(Customer) as told:
            assert self.ask() == (200, b"name\r\na\r\nb\r\n")
        assert [name for name, _ in told] == ["started", "finished"]

    def test_limits_hold_and_places_are_free_again(self):
        Customer.objects.bulk_create(Customer(name=name) for name in "abcdef")
        for _ in range(2):
            status, body = self.ask()
            assert (status, body.decode().startswith("the export has more than 5 rows")) == (429, True)
        Customer.objects.filter(name="f").delete()
        for _ in range(2):
            assert self.ask()[0] == 200
