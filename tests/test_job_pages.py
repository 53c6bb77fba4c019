"""Exports in the background as people and programs meet them: offered, followed, cancelled, fetched."""

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django import urls
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.signing import TimestampSigner
from django.db.models import Prefetch
from django.http import QueryDict
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from tests import asking
from upstream.integrations.limits import Limits
from upstream.integrations.views import ExportView
from upstream.jobs import links, states, workers
from upstream.jobs.checks import check_pages
from upstream.jobs.files import storage
from upstream.jobs.models import ExportJob, State
from upstream.jobs.offers import SURE_ROWS
from upstream.jobs.running import run_job
from upstream.models import Customer

HTML = {"Accept": "text/html,application/xhtml+xml"}
EXPORT = "/customers/export/"
COUNT = 12


@pytest.fixture
def options(settings, tmp_path):
    def change(**changed):
        settings.UPSTREAM_JOBS = {**settings.UPSTREAM_JOBS, **changed}

    change(directory=str(tmp_path / "exports"), rows=10)
    return change


@pytest.fixture
def rows(db):
    Customer.objects.bulk_create(Customer(name=f"Customer {number}, ü") for number in range(COUNT))


@pytest.fixture
def root(rows, client):
    user = User.objects.create_superuser("root", password="x")
    client.force_login(user)
    return user


@pytest.fixture
def other(django_user_model, rows):
    return django_user_model.objects.create_superuser("other", password="x")


def job_at(response):
    """Return the job whose page a browser is led to."""
    assert response.status_code == 303, response
    return ExportJob.objects.get(pk=re.fullmatch(r"/exports/([0-9a-f-]{36})/", response["Location"])[1])


def work():
    """Run the jobs that wait, and return how many there were."""
    waiting = [*ExportJob.objects.filter(state=State.QUEUED).values_list("pk", flat=True)]
    return sum(run_job(pk) is not None for pk in waiting)


def made(client):
    """Return a job that a browser asked for, and that is done."""
    job = job_at(client.get(EXPORT, {"format": "csv", "export_background": "1"}, headers=HTML))
    assert work() == 1
    job.refresh_from_db()
    assert job.state == State.DONE
    return job


def body(response):
    return b"".join(response.streaming_content) if response.streaming else response.content


def downloaded(client, **parameters):
    """Return the bytes of the same export as a download."""
    response = client.get(EXPORT, {"format": "csv", "export_background": "0", **parameters})
    assert response.status_code == 200
    return body(response)


@pytest.mark.usefixtures("options")
class TestOffer:
    def test_a_browser_that_asks_for_many_rows_is_led_to_a_job(self, client, root):
        response = client.get(EXPORT, {"format": "csv"}, headers=HTML)
        job = job_at(response)
        assert (job.state, job.requester, job.total, job.filename) == ("queued", root, COUNT, "customers.csv")
        page = client.get(response["Location"])
        assert "This export is made in the background." in page.content.decode()

    def test_a_program_that_asks_for_many_rows_gets_202_and_asks_again(self, client, root):
        response = client.get(EXPORT, {"format": "csv"})
        assert response.status_code == 202
        assert int(response["Retry-After"]) > 0
        told = response.json()
        assert (told["state"], told["rows"], told["total"]) == ("queued", 0, COUNT)
        assert told["url"] == response["Location"]
        again = client.get(response["Location"])
        assert again.status_code == 202
        assert again["Location"] == response["Location"]
        assert work() == 1
        whole = client.get(response["Location"])
        assert whole.status_code == 200
        assert body(whole) == downloaded(client)
        assert whole["Content-Disposition"] == 'attachment; filename="customers.csv"'

    def test_a_program_goes_on_with_a_file_where_it_broke_off(self, client, root):
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        assert work() == 1
        whole = client.get(where)
        content = body(whole)
        rest = client.get(where, headers={"Range": "bytes=100-", "If-Range": whole["ETag"]})
        assert rest.status_code == 206
        assert content[:100] + body(rest) == content

    def test_few_rows_are_downloaded_at_once(self, client, root, options):
        options(rows=COUNT)
        response = client.get(EXPORT, {"format": "csv"}, headers=HTML)
        assert response.status_code == 200
        assert len(body(response).splitlines()) == COUNT + 1
        assert not ExportJob.objects.exists()

    def test_filters_decide_how_many_rows_there_are(self, client, root):
        response = client.get(EXPORT, {"format": "csv", "name": "Customer 1"}, headers=HTML)
        assert response.status_code == 200
        assert len(body(response).splitlines()) == 4  # 1, 10, 11, and the header

    @pytest.mark.parametrize("prefer", ["respond-async", "wait=5, respond-async", "Respond-Async; x=1"])
    def test_a_program_may_prefer_it(self, client, root, options, prefer):
        options(rows=1000)
        assert client.get(EXPORT, headers={"Prefer": prefer}).status_code == 202
        assert client.get(EXPORT, headers={"Prefer": "return=minimal"}).status_code == 200

    def test_it_can_be_declined(self, client, root):
        assert len(downloaded(client).splitlines()) == COUNT + 1
        assert not ExportJob.objects.exists()

    def test_a_second_click_finds_the_job_that_waits(self, client, root):
        first = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        second = job_at(client.get(EXPORT, {"format": "csv", "export_background": "1"}, headers=HTML))
        third = job_at(client.get(EXPORT, {"format": "csv", "name": "c"}, headers=HTML))
        assert first == second != third

    def test_a_job_that_is_done_is_not_found_again(self, client, root):
        first = made(client)
        assert job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML)) != first

    def test_the_same_export_of_another_user_is_another_job(self, client, root, other):
        first = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        client.force_login(other)
        assert job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML)) != first

    def test_a_program_that_asks_for_the_job_of_another_user_gets_404(self, client, root, other):
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        client.force_login(other)
        response = client.get(where)
        assert (response.status_code, response.json()) == (404, {"error": "you asked for no such export here"})
        assert ExportJob.objects.count() == 1

    @pytest.mark.parametrize("changed", ["name=x", "format=json", "columns=id"])
    def test_a_job_is_found_by_its_own_request_alone(self, client, root, changed):
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        assert client.get(where.replace("format=csv", changed)).status_code == 404

    @pytest.mark.parametrize(
        "query",
        [
            "columns=id,name&format=csv",
            "name=a%20b",
            "name=a+b&",
            "name=12:30",
            "name=1&columns=name&name=C",
            "format=csv&name",
            "name=%C3%BC",
            "name=ü",
            "",
        ],
        ids=["comma", "space", "plus", "colon", "repeated", "no_value", "encoded", "not_encoded", "none"],
    )
    def test_parameters_may_be_written_in_any_way(self, client, root, options, query):
        options(rows=1)
        first = client.get(f"{EXPORT}?{query}", headers={"Prefer": "respond-async"})
        assert first.status_code == 202
        assert client.get(first["Location"]).status_code == 202
        rewritten = QueryDict(first["Location"].partition("?")[2])
        assert client.get(f"{EXPORT}?{rewritten.urlencode()}").status_code == 202
        assert work() == 1
        assert body(client.get(first["Location"])) == body(client.get(f"{EXPORT}?{query}&export_background=0"))

    def test_a_job_is_found_at_its_own_host_alone(self, client, root, settings):
        settings.ALLOWED_HOSTS = ["*"]
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        assert work() == 1
        assert client.get(where, headers={"Host": "other.example.com"}).status_code == 404
        assert body(client.get(where))

    def test_a_value_that_says_nothing_of_offers_is_the_view_s_own(self, client, root):
        job_at(client.get(EXPORT, {"format": "csv", "export_background": "later"}, headers=HTML))
        assert ExportJob.objects.get().request["query"] == "format=csv&export_background=later"

    @pytest.mark.parametrize("identity", ["1", "x", "", "539d5afa-bac9-4b0a-b493-963abc11b008"])
    def test_there_is_no_job_of_that_name(self, client, root, identity):
        assert client.get(EXPORT, {"format": "csv", "export_job": identity}).status_code == 404

    def test_a_program_is_told_that_there_will_be_no_file(self, client, root):
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        states.cancel(ExportJob.objects.get().pk)
        response = client.get(where)
        assert (response.status_code, response.json()["state"]) == (410, "cancelled")

    def test_a_program_whose_permission_was_taken_gets_no_file(self, client, rows):
        user = asking.create_user("ann", "view_customer", "export_customer", is_staff=True)
        client.force_login(user)
        where = client.get(EXPORT, {"format": "csv"})["Location"]
        assert work() == 1
        user.user_permissions.clear()
        assert client.get(where).status_code == 403

    def test_who_may_not_export_is_refused_and_no_job_is_made(self, client, rows):
        client.force_login(asking.create_user("bob", "view_customer"))
        assert client.get(EXPORT, {"format": "csv", "export_background": "1"}).status_code == 403
        assert not ExportJob.objects.exists()

    @pytest.mark.parametrize("headers", [{"Purpose": "prefetch"}, {"Range": "bytes=5-"}])
    def test_a_request_that_starts_no_download_starts_no_job(self, client, root, headers):
        assert client.get(EXPORT, {"format": "csv"}, headers=headers).status_code in (412, 503)
        assert client.head(EXPORT, {"format": "csv"}).status_code == 200
        assert not ExportJob.objects.exists()

    def test_nobody_has_more_jobs_than_allowed(self, client, root, options):
        options(per_user=1)
        assert client.get(EXPORT, {"format": "csv"}).status_code == 202
        response = client.get(EXPORT, {"format": "csv", "name": "c"})
        assert response.status_code == 429
        assert int(response["Retry-After"]) > 0
        assert ExportJob.objects.count() == 1

    def test_a_site_without_the_pages_leads_no_browser_there(self, client, root, settings):
        settings.ROOT_URLCONF = "tests.urls_without_exports"
        assert client.get(EXPORT, {"format": "csv"}, headers=HTML).status_code == 200
        assert client.get(EXPORT, {"format": "csv"}).status_code == 202
        assert [one.id for one in check_pages()] == ["upstream_jobs.W001"]
        settings.ROOT_URLCONF = "tests.urls_of_exports"
        assert [*check_pages()] == []


class Names(ExportView):
    queryset = Customer.objects.order_by("pk")
    columns = ("name",)
    permission = None


class OfTenant(Names):
    """The customers whose names have a word that the session has."""

    def get_queryset(self):
        return super().get_queryset().filter(name__contains=self.request.session.get("tenant", ""))


class OfPrefetched(Names):
    columns = None

    def get_queryset(self):
        mine = User.objects.filter(username=self.request.session.get("tenant", ""))
        return Customer.objects.prefetch_related(Prefetch("users", mine)).order_by("pk")


class OfMiddleware(Names):
    """The customers of a tenant that middleware found."""

    def get_queryset(self):
        return super().get_queryset().filter(name__contains=self.request.tenant)


class OfNobody(Names):
    def get_queryset(self):
        return Customer.objects.filter(pk__in=[]).order_by("pk")


class OfLast(Names):
    def get_queryset(self):
        return Customer.objects.filter(users__date_joined__lte=timezone.now()).order_by("pk")


class InColumns(Names):
    def get_export_columns(self):
        return ("id", "name") if "tenant" in self.request.session else ("id",)


class OfList(Names):
    columns = None

    def get_queryset(self):
        return [{"id": self.request.session.get("tenant", "none")}]


class OfIterator(Names):
    columns = None

    def get_queryset(self):
        return ({"id": number} for number in range(COUNT))


def tenant_found(view):
    def found(request):
        request.tenant = "Customer 1"
        return view(request)

    return found


@pytest.mark.usefixtures("options", "root")
class TestRepeating:
    """A worker has no session and no middleware, so what depends on them is downloaded."""

    @pytest.fixture
    def asked(self, client, settings):
        def ask(view, **session):
            settings.ROOT_URLCONF = (urls.path("x", view.as_view()),)
            kept = client.session
            kept.update({"tenant": "Customer 1", **session})
            kept.save()
            return client.get("/x?export_background=1")

        return ask

    @pytest.mark.parametrize("view", [OfTenant, OfPrefetched, InColumns, OfList, OfIterator])
    def test_what_depends_on_the_session_or_cannot_be_compared_is_downloaded(self, asked, view):
        response = asked(view)
        assert response.status_code == 200
        assert body(response)
        assert not ExportJob.objects.exists()

    def test_a_session_that_changes_nothing_is_no_hindrance(self, asked):
        assert asked(OfTenant, tenant="").status_code == 202

    @pytest.mark.parametrize("view", [Names, OfNobody, OfLast])
    def test_rows_that_are_the_same_are_a_job(self, asked, view):
        assert asked(view).status_code == 202

    def test_what_middleware_found_is_not_there_when_it_runs(self, asked, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_job_pages.tenant_found"]
        response = asked(OfMiddleware)
        assert (response.status_code, len(body(response).splitlines())) == (200, 4)  # 1, 10, 11, and the header
        assert not ExportJob.objects.exists()


@pytest.mark.usefixtures("options", "answers")
class TestOfferOfAnyView:
    def test_visitors_who_are_not_logged_in_download_at_once(self, rows):
        assert len(asking.rows(asking.ask(Names))) == COUNT + 1
        assert len(asking.rows(asking.ask(Names, "?export_background=1"))) == COUNT + 1

    def test_more_rows_than_the_view_allows_are_refused_as_ever(self, rows, root):
        class Few(Names):
            limits = Limits(rows=5)

        for query in ("", "?export_background=1"):
            assert "more than 5 rows" in asking.refused(asking.ask(Few, query, user=root), 429)
        assert not ExportJob.objects.exists()

    def test_a_spooled_download_that_would_take_too_long_is_a_job(self, root, options, monkeypatch, settings):
        class Spooled(Names):
            spool = True

        settings.ROOT_URLCONF = (urls.path("x", Spooled.as_view()),)
        options(rows=1000)
        assert len(asking.rows(asking.ask(Spooled, user=root))) == COUNT + 1
        monkeypatch.setitem(SURE_ROWS, ".csv", 0.1)  # so they would take two minutes
        assert asking.ask(Spooled, user=root).status_code == 202
        assert len(asking.rows(asking.ask(Names, user=root))) == COUNT + 1  # its first row comes at once

    def test_rows_that_are_no_queryset_are_a_job_only_if_asked_for(self, root, settings):
        class Listed(Names):
            columns = None

            def get_queryset(self):
                return [{"id": number} for number in range(COUNT)]

        settings.ROOT_URLCONF = (urls.path("x", Listed.as_view()),)
        assert len(asking.rows(asking.ask(Listed, user=root))) == COUNT + 1
        assert asking.ask(Listed, "?export_background=1", user=root).status_code == 202


@pytest.mark.usefixtures("options")
class TestAdmin:
    PAGE = "/admin/upstream/customer/export/"

    def choices(self, **changed):
        return {"format": "csv", "profile": "data", "columns": ["name"], **changed}

    def test_the_form_offers_it(self, client, root):
        page = client.get(self.PAGE).content.decode()
        assert "In the background" in page
        response = client.post(self.PAGE, self.choices(export_background="1"), headers=HTML)
        job = job_at(response)
        assert work() == 1
        job.refresh_from_db()
        assert (job.state, job.rows) == (State.DONE, COUNT)

    def test_many_rows_are_a_job_and_a_second_click_finds_it(self, client, root):
        first = job_at(client.post(self.PAGE, self.choices(), headers=HTML))
        assert job_at(client.post(self.PAGE, self.choices(export_background="1"), headers=HTML)) == first

    def test_a_program_that_sends_the_form_downloads_at_once(self, client, root):
        response = client.post(self.PAGE, self.choices(export_background="1"))
        assert (response.status_code, len(body(response).splitlines())) == (200, COUNT + 1)
        assert not ExportJob.objects.exists()

    def test_selected_rows_are_downloaded_at_once(self, client, root, options):
        options(rows=1)
        keys = [str(pk) for pk in Customer.objects.values_list("pk", flat=True)[:3]]
        page = client.post(
            "/admin/upstream/customer/", {"action": "export_selected", "_selected_action": keys}
        ).content.decode()
        assert "Selected for export: 3" in page
        assert "In the background" not in page
        chosen = self.choices(export_background="1", _selected_action=keys)
        response = client.post(self.PAGE, chosen, headers=HTML)
        assert response.status_code == 200
        assert len(body(response).splitlines()) == 4
        assert not ExportJob.objects.exists()


@pytest.mark.usefixtures("options")
class TestRestFramework:
    URL = "/api/customers/"

    @pytest.fixture(autouse=True)
    def needs(self):
        pytest.importorskip("drf_spectacular")

    def test_a_program_gets_202_and_then_the_file_from_the_same_list(self, client, root):
        response = client.get(self.URL, {"format": "ndjson"})
        assert response.status_code == 202
        assert client.get(response["Location"]).status_code == 202
        assert work() == 1
        whole = client.get(response["Location"])
        direct = client.get(self.URL, {"format": "ndjson", "export_background": "0"})
        assert body(whole) == body(direct)
        assert ExportJob.objects.get().rows == COUNT


def links_of(content):
    return re.findall(r'href="([^"]+)"', content)


@pytest.mark.usefixtures("options")
class TestPages:
    def test_the_list_has_the_jobs_of_its_user_alone(self, client, root, other):
        mine = made(client)
        client.force_login(other)
        theirs = made(client)
        page = client.get("/exports/").content.decode()
        assert str(theirs.pk) in page
        assert str(mine.pk) not in page
        assert client.get(f"/exports/{mine.pk}/").status_code == 404

    @pytest.mark.parametrize("name", ["cancel", "retry"])
    def test_jobs_of_others_cannot_be_changed(self, client, root, other, name):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        client.force_login(other)
        assert client.post(f"/exports/{job.pk}/{name}/").status_code == 404
        job.refresh_from_db()
        assert job.state == State.QUEUED

    def test_who_is_not_logged_in_is_asked_to(self, client, db):
        for path in ("/exports/", f"/exports/{uuid4()}/"):
            response = client.get(path)
            assert response.status_code == 302
            assert response["Location"].startswith("/accounts/login/")

    def test_a_job_is_cancelled_and_made_again(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        response = client.post(f"/exports/{job.pk}/cancel/", {"next": f"/exports/{job.pk}/"})
        assert (response.status_code, response["Location"]) == (303, f"/exports/{job.pk}/")
        page = client.get(response["Location"]).content.decode()
        assert "Cancelled customers.csv." in page
        assert "Try again" in page
        assert work() == 0
        assert client.post(f"/exports/{job.pk}/retry/")["Location"] == "/exports/"
        assert work() == 1
        job.refresh_from_db()
        assert job.state == State.DONE

    def test_too_many_are_not_made_again(self, client, root, options):
        options(per_user=1)
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        client.post(f"/exports/{job.pk}/cancel/")
        job_at(client.get(EXPORT, {"format": "ndjson"}, headers=HTML))
        client.post(f"/exports/{job.pk}/retry/")
        assert "1 exports are waiting or running already" in client.get("/exports/").content.decode()
        job.refresh_from_db()
        assert job.state == State.CANCELLED

    def test_a_page_that_shows_a_waiting_job_wakes_the_worker(self, client, root, monkeypatch):
        woken = []
        monkeypatch.setattr(workers, "wake", lambda: woken.append(1))
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        followed = client.get(EXPORT, {"format": "csv", "export_job": str(job.pk)})
        assert followed.status_code == 202
        for path in ("/exports/", "/exports/?live=1", f"/exports/{job.pk}/", f"/exports/{job.pk}/?live=1"):
            client.get(path)
        assert len(woken) == 5
        work()
        client.get("/exports/")
        assert len(woken) == 5

    def test_a_job_that_has_ended_is_not_cancelled(self, client, root):
        job = made(client)
        client.post(f"/exports/{job.pk}/cancel/")
        assert "had ended already" in client.get("/exports/").content.decode()
        job.refresh_from_db()
        assert job.state == State.DONE

    @pytest.mark.parametrize("name", ["cancel", "retry"])
    def test_changes_are_posted(self, client, root, name):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        assert client.get(f"/exports/{job.pk}/{name}/").status_code == 405

    def test_a_button_leads_to_no_other_site(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        response = client.post(f"/exports/{job.pk}/cancel/", {"next": "https://evil.example/"})
        assert response["Location"] == "/exports/"

    def test_what_failed_says_why(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        root.is_active = False
        root.save()
        assert work() == 1
        root.is_active = True
        root.save()
        client.force_login(root)
        page = client.get(f"/exports/{job.pk}/").content.decode()
        assert "whoever asked for it is no longer let in" in page
        assert "Failed" in page

    def test_the_list_has_pages(self, client, root):
        many(root, 60)
        first = client.get("/exports/").content.decode()
        assert first.count("data-job=") == 25
        assert "Page 1 of 3" in first
        last = client.get("/exports/?page=3").content.decode()
        assert last.count("data-job=") == 10
        assert 'rel="next"' not in last

    def test_the_list_asks_as_many_queries_for_many_jobs_as_for_few(
        self, client, root, django_assert_max_num_queries
    ):
        many(root, 200)
        # The session, its user, how many jobs there are, and those of the page.
        with django_assert_max_num_queries(4):
            client.get("/exports/")

    def test_a_page_that_runs_can_be_read_without_a_script(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        ExportJob.objects.update(state=State.RUNNING, rows=6, started_at=timezone.now() - timedelta(seconds=30))
        page = client.get(f"/exports/{job.pk}/").content.decode()
        assert re.search(r"<noscript>.*<a [^>]*href=\"\"", page, re.DOTALL)
        assert 'max="100" value="50"' in page
        assert "6 of 12 rows" in page
        assert 30 <= int(re.search(r"about 0:00:(\d\d) left", page)[1]) < 60  # the machine may be busy
        assert "<script>" not in page
        assert " style=" not in page
        assert " on" + "click" not in page

    def test_what_changes_is_sent_alone_and_only_if_it_has_changed(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        for path in ("/exports/", f"/exports/{job.pk}/"):
            live = client.get(path, {"live": "1"})
            assert b"<html" not in live.content
            etag = live["ETag"]
            assert client.get(path, {"live": "1"}, headers={"If-None-Match": etag}).status_code == 304
            ExportJob.objects.filter(pk=job.pk).update(rows=job.rows + 1)
            job.refresh_from_db()
            assert client.get(path, {"live": "1"}, headers={"If-None-Match": etag}).status_code == 200

    def test_messages_stay_for_the_whole_page(self, client, root):
        where = client.get(EXPORT, {"format": "csv"}, headers=HTML)["Location"]
        client.get(where, {"live": "1"})
        assert "made in the background" in client.get(where).content.decode()

    def test_nothing_of_it_is_stored_by_a_browser(self, client, root):
        job = made(client)
        for path in ("/exports/", f"/exports/{job.pk}/", f"/exports/{job.pk}/download/"):
            assert "no-store" in client.get(path)["Cache-Control"]

    @pytest.fixture
    def project(self, settings):
        """A project of others, whose pages are not those of the application."""
        settings.ROOT_URLCONF = "tests.urls_of_exports"
        directory = Path(apps.get_app_config("upstream_jobs").path) / "templates"
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [directory]}]

    @pytest.mark.parametrize("language", ["de", "fr", "es"])
    def test_a_project_has_them_in_the_language_of_its_reader(self, client, root, project, language):
        page = client.get("/exports/", headers={"Accept-Language": language}).content.decode()
        assert f'<html lang="{language}" dir="ltr">' in page
        assert "My exports" not in page

    def test_a_project_has_them_from_right_to_left(self, client, root, project):
        page = client.get("/exports/", headers={"Accept-Language": "ar"}).content.decode()
        assert '<html lang="ar" dir="rtl">' in page


def many(user, count):
    return ExportJob.objects.bulk_create(
        ExportJob(requester=user, format="csv", filename=f"{number}.csv", request={}, state=State.EXPIRED)
        for number in range(count)
    )


@pytest.mark.usefixtures("options")
class TestFile:
    def link(self, client, job):
        response = client.get(f"/exports/{job.pk}/download/")
        assert response.status_code == 303
        return response["Location"]

    def test_the_page_leads_to_the_file(self, client, root):
        job = made(client)
        page = client.get("/exports/").content.decode()
        assert f"/exports/{job.pk}/download/" in links_of(page)
        response = client.get(self.link(client, job))
        assert body(response) == downloaded(client)
        assert response["Content-Disposition"] == 'attachment; filename="customers.csv"'
        assert response["Cache-Control"] == "private, no-store"

    def test_a_link_that_was_changed_anywhere_is_refused(self, client, root):
        link = self.link(client, made(client))
        start = link.index("file/") + len("file/")
        for at in range(start, len(link) - 1):
            changed = link[:at] + ("b" if link[at] != "b" else "c") + link[at + 1 :]
            assert client.get(changed).status_code in (403, 404), changed

    def test_a_link_that_is_over_is_refused(self, client, root, options):
        link = self.link(client, made(client))
        options(link_seconds=0.000001)
        assert client.get(link).status_code == 403

    def test_a_link_is_of_use_to_its_user_alone(self, client, root, other):
        link = self.link(client, made(client))
        client.force_login(other)
        assert client.get(link).status_code == 403
        client.logout()
        assert client.get(link).status_code == 403

    def test_a_link_to_the_job_of_another_cannot_be_signed_for_oneself(self, client, root, other):
        job = made(client)
        client.force_login(other)
        forged = TimestampSigner(salt=links.SALT).sign(f"{job.pk.hex}.{other.pk}")
        assert client.get(reverse("upstream_jobs:file", args=[forged])).status_code == 403

    @pytest.mark.parametrize("what", ["permission", "active", "staff"])
    def test_a_right_that_was_taken_away_is_taken_from_the_link(self, client, rows, what):
        user = asking.create_user("ann", "view_customer", "export_customer", is_staff=True)
        client.force_login(user)
        link = self.link(client, made(client))
        if what == "permission":
            user.user_permissions.remove(*Permission.objects.filter(codename="export_customer"))
        elif what == "active":
            user.is_active = False
        else:
            user.user_permissions.clear()
            user.is_staff = False
        user.save()
        assert client.get(link).status_code == 403

    def test_a_job_without_a_file_gives_none(self, client, root):
        job = made(client)
        link = self.link(client, job)
        storage().delete(job.file)
        assert client.get(link).status_code == 410
        states.forget(states.jobs())
        assert client.get(link).status_code == 403
        assert client.get(f"/exports/{job.pk}/download/").status_code == 410

    def test_a_part_and_the_headers_alone_can_be_asked_for(self, client, root):
        job = made(client)
        link = self.link(client, job)
        content = body(client.get(link))
        assert body(client.get(link, headers={"Range": "bytes=-7"})) == content[-7:]
        head = client.head(link)
        assert (head["Content-Length"], head.content) == (str(len(content)), b"")


@pytest.mark.usefixtures("options")
class TestOperators:
    LIST = "/admin/upstream_jobs/exportjob/"

    def act(self, client, action, *jobs):
        keys = [str(job.pk) for job in jobs]
        return client.post(self.LIST, {"action": action, "_selected_action": keys}, follow=True)

    def test_they_see_the_jobs_of_all_and_what_each_exports(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv", "name": "ustomer"}, headers=HTML))
        listed = client.get(self.LIST, {"state": "queued", "q": "root"}).content.decode()
        assert "customers.csv" in listed
        page = client.get(f"{self.LIST}{job.pk}/change/").content.decode()
        assert "name=ustomer" in page
        assert client.get(f"{self.LIST}add/").status_code == 403
        assert client.get(f"{self.LIST}{job.pk}/delete/").status_code == 403
        assert client.post(f"{self.LIST}{job.pk}/change/", {"filename": "x"}).status_code == 403

    def test_values_of_filters_are_hidden_from_who_may_not_view_the_rows(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv", "name": "ustomer"}, headers=HTML))
        operator = asking.create_user("op", "view_exportjob", "change_exportjob", is_staff=True)
        client.force_login(operator)
        page = client.get(f"{self.LIST}{job.pk}/change/").content.decode()
        assert "customers.csv" in page
        assert "name=ustomer" not in page

    @pytest.mark.parametrize("lookup", ["request__query__contains=name%3Dustomer", "fingerprint__startswith=0"])
    def test_a_list_is_not_filtered_by_what_it_hides(self, client, root, lookup):
        job_at(client.get(EXPORT, {"format": "csv", "name": "ustomer"}, headers=HTML))
        client.force_login(asking.create_user("op", "view_exportjob", is_staff=True))
        assert client.get(f"{self.LIST}?filename__contains=customers").status_code == 200
        assert client.get(f"{self.LIST}?{lookup}").status_code == 400

    def test_they_cancel_repeat_and_expire(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        assert "1 of 1 exports were changed." in self.act(client, "cancel", job).content.decode()
        job.refresh_from_db()
        assert job.state == State.CANCELLED
        self.act(client, "retry", job)
        assert work() == 1
        job.refresh_from_db()
        name = job.file
        assert storage().exists(name)
        self.act(client, "expire", job)
        job.refresh_from_db()
        assert (job.state, job.request) == (State.EXPIRED, {})
        assert not storage().exists(name)

    def test_who_may_only_view_changes_nothing(self, client, root):
        job = job_at(client.get(EXPORT, {"format": "csv"}, headers=HTML))
        client.force_login(asking.create_user("op", "view_exportjob", is_staff=True))
        self.act(client, "cancel", job)
        job.refresh_from_db()
        assert job.state == State.QUEUED


def test_request_without_a_user_is_no_reason_to_offer(rows, options, answers):
    request = RequestFactory().get("/x")
    assert Names.as_view()(request).status_code == 200
