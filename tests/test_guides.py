"""Every block of every guide runs, every link leads somewhere, and the door stays short."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from decimal import Decimal
from doctest import ELLIPSIS, OutputChecker
from glob import glob
from io import StringIO
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import quote

import boto3
import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import call_command
from django.test import RequestFactory
from moto import mock_aws
from shop.models import Customer, Order, Tag

import upstream
from benchmarks.__main__ import main as run_benchmarks
from tests import processes, services
from tests.serving.running import get, running
from upstream.models import Customer as Reported
from upstream.models import DriftEvent, ReportSchedule
from upstream.streaming import databases

ROOT = Path(__file__).resolve().parent.parent
DOOR = "README.md"
DOOR_LINES = 200
GUIDES = sorted(glob("**/README.md", root_dir=ROOT, recursive=True))  # noqa: PTH207 (it leaves hidden folders out)
FOR_CONTRIBUTORS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").glob("**/*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A drawing is for people; the others are run, or compared with what the block before them printed.
DRAWING = re.compile(r"[\w ]+( --> [\w ]+)+\n")
LANGUAGES = {"", "sh", "python", "text", "nginx"}


class Block(NamedTuple):
    guide: str
    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        found = FILE.match(self.text)
        return found[1] if found and self.language == "python" else ""


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def blocks_of(guide: str) -> list[Block]:
    text = text_of(guide)
    found = FENCED.finditer(text)
    return [Block(guide, block[1], block[2], text.count("\n", 0, block.start(2))) for block in found]


BLOCKS = [block for guide in GUIDES for block in blocks_of(guide)]
SHELL = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
RUN: set[str] = set()
MODULES = count(1)
# Such a block of the door is a file of the reader's project; the others run as they stand.
FILE = re.compile(r"# ([\w/]+\.py)\n")


def commands(*starts: str, guides: Sequence[str] = GUIDES) -> pytest.MarkDecorator:
    """Run a test for each shell line of the guides that begins so."""
    shell = [block for block in BLOCKS if block.language == "sh" and block.guide in guides]
    lines = [line for block in shell for line in block.text.splitlines() if line.startswith(starts)]
    RUN.update(lines)
    return pytest.mark.parametrize("line", lines)


@pytest.fixture
def demo_rows(db, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    settings.MEDIA_ROOT = tmp_path / "media"
    monkeypatch.setattr(databases, "DATABASES", dict(databases.DATABASES))  # a guide adds one
    call_command("seed_demo", rows=300, verbosity=0)
    Path("october.csv").write_text("payer,cpt,submitted_date,outcome\nSummit Mutual,29881,2026-10-01,OTHER\n")
    _take_orders(30)


def _take_orders(count):
    customers = [Customer.objects.create(name=name) for name in ("ada", "grace, of the navy", "=1+1")]
    tags = [Tag.objects.create(name=name) for name in ("gift", "express")]
    for number in range(count):
        status = Order.Status.PAID if number % 3 else Order.Status.OPEN
        order = Order.objects.create(customer=customers[number % 3], status=status, total=Decimal(number) / 4)
        order.tags.set(tags[: number % 3])


@pytest.fixture
def elsewhere(settings, monkeypatch):
    """A bucket of S3, and an interface of two pages: what the cookbook's recipes read and write."""
    pages = [{"results": [{"order": 3, "amount": "0.75"}]}, {"results": [{"order": 1, "amount": "9.50"}]}]
    url = None
    for page in reversed(pages):
        url = "data:application/json," + quote(json.dumps(page | {"next": url}))
    settings.PAYMENTS_API = url
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(name, value)
    options = {"bucket_name": "reports", "region_name": "us-east-1"}
    entry = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "exports": entry}
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="reports")
        yield
        storages["exports"].connection.meta.client.close()


@pytest.fixture
def run(demo_rows, elsewhere) -> Callable[[str], dict[str, Any]]:
    """Run the Python blocks of a guide one after the other, compare what they print, and return their names."""

    def run(guide):
        names, printed = {"__name__": f"guide_{next(MODULES)}"}, ""  # celery asks where a task is defined
        for block in blocks_of(guide):
            if block.language == "python" and not block.file:
                code = compile("\n" * block.line + block.text, ROOT / guide, "exec")
                with redirect_stdout(StringIO()) as output:
                    exec(code, names)
                printed = output.getvalue()
            elif block.language == "text":
                assert OutputChecker().check_output(block.text, printed, ELLIPSIS), printed
        return names

    return run


@pytest.mark.parametrize("guide", GUIDES)
def test_python_blocks_run_one_after_the_other(guide, run):
    run(guide)


def superuser():
    return User.objects.create(username="root", is_staff=True, is_superuser=True)


def asked(**parameters):
    request = RequestFactory().get("/", parameters)
    request.user = superuser()
    return request


def test_the_door_shows_exports_that_answer(run):
    names = run(DOOR)

    assert Path("orders.csv").read_bytes().startswith(b"id,Customer,total\r\n")
    assert b"".join(names["download"](RequestFactory().get("/"))) == Path("orders.csv").read_bytes()


VISIT = """
import json
from decimal import Decimal
from django.contrib.auth.models import User
from django.test import Client
from shop.models import Customer, Order
User.objects.create_superuser("root")
for total in (1, 3, 2):
    Order.objects.create(customer=Customer.objects.create(name="Ada"), status="paid", total=total)
client = Client()
asked_to_log_in = client.get("/orders/export/?format=csv", follow=True)
assert asked_to_log_in.status_code == 200 and b"password" in asked_to_log_in.content
client.force_login(User.objects.get())
print(json.dumps([client.get(url).getvalue().decode() for url in (%s)]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of its own with the door's files, as a reader makes it."""
    top = tmp_path_factory.mktemp("project")
    run_in(top, "-m", "django", "startproject", "mysite", ".")
    run_in(top, "manage.py", "startapp", "shop")
    with (top / "mysite/settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["shop"]\nALLOWED_HOSTS = ["testserver"]\n')
    for block in blocks_of(DOOR):
        if block.file:
            with (top / block.file).open("a" if block.file.endswith("settings.py") else "w") as file:
                file.write(block.text)
    run_in(top, "manage.py", "makemigrations", "shop")
    run_in(top, "manage.py", "migrate")
    return top


def run_in(directory, *arguments):
    path = {"PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])}
    result = processes.run(*arguments, cwd=directory, variables=path)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def test_the_door_leads_to_a_project_that_exports(project):
    assert "no issues" in run_in(project, "manage.py", "check", "--fail-level", "WARNING")
    urls = re.findall(r"`(/orders/export/\S+)`", text_of(DOOR))
    urls += ["/orders/export/?format=json&status=open", "/admin/shop/order/", "/admin/shop/order/export/"]
    shown, none, listed, page = json.loads(
        run_in(project, "manage.py", "shell", "-c", VISIT % urls).splitlines()[-1]
    )
    assert shown == "id,total\r\n2,3.00\r\n3,2.00\r\n1,1.00\r\n"
    assert json.loads(none) == []
    assert 'href="/admin/shop/order/export/' in listed
    assert "3 orders" in page


@commands("python manage.py ", guides=[DOOR])
def test_commands_of_the_door_run_in_its_project(line, project):
    _, *arguments = shlex.split(line, comments=True)
    assert run_in(project, *arguments) or (project / "orders.csv.gz").exists()


def test_the_tests_have_the_models_of_the_door():
    [models] = [block.text for block in blocks_of(DOOR) if block.file == "shop/models.py"]
    assert FILE.sub("", models) == (ROOT / "tests/newcomer/shop/models.py").read_text(encoding="utf-8")


def test_only_the_door_makes_files_of_a_project():
    assert {block.guide for block in BLOCKS if block.file} == {DOOR}


def test_the_cookbook_shows_exports_that_answer(run):
    names = run("upstream/README.md")
    orders = names["orders"]

    assert Path("labels.csv").read_text().count("Paid in full") == orders.filter(status="paid").count() == 20
    assert Path("tags.csv").read_text().splitlines()[1:4] == ["1,", "2,gift", "3,gift; express"]
    assert Path("computed.csv").read_text().splitlines()[4] == "4,Ada,0.89,0"
    assert Path("customers.csv").read_text().splitlines()[2] == "ada,10,33.75"
    assert Path("für_excel.csv").read_text(encoding="utf-8-sig").splitlines()[3].startswith("3;'=1+1;0,50;")
    assert [*json.loads(Path("report.json").read_text())] == ["made_at", "orders", "customers"]
    assert len(Path("all/shop.Order.ndjson").read_text().splitlines()) == 30
    assert Path("payments.ndjson").read_text() == '{"order":"3","amount":"0.75"}\n{"order":"1","amount":"9.50"}\n'
    assert names["storages"]["exports"].exists(names["name"])


def test_the_cookbook_shows_views_that_answer(run, client, settings):
    names = run("upstream/README.md")
    settings.ROOT_URLCONF = ModuleType("urls")
    settings.ROOT_URLCONF.urlpatterns = names["urlpatterns"]
    customer = Customer.objects.get(name="ada").pk

    assert client.get(f"/customers/{customer}/orders/").status_code == 403
    client.force_login(superuser())
    assert client.get(f"/customers/{customer}/orders/").getvalue().count(b"\r\n") == 11
    assert client.get("/orders/export/?format=csv&customer=GRACE&order_by=-total").getvalue().count(b"\r\n") == 11
    assert client.get("/orders/table/?format=md&columns=id").getvalue().startswith(b"| id |\n| --- |\n| 1 |\n")
    assert client.get("/orders/all/").getvalue().startswith(b"id,total\r\n1,0.00\r\n")


def test_the_cookbook_shows_an_action_and_a_job(run):
    names = run("upstream/README.md")

    orders = Order.objects.filter(customer__name="=1+1")
    chosen = {"action": "export_for_accountants", ACTION_CHECKBOX_NAME: [str(order.pk) for order in orders]}
    request = RequestFactory().post("/", chosen)
    request.user = superuser()
    answer = names["OrderAdmin"](Order, admin.site).response_action(request, Order.objects.all()).getvalue()
    assert answer.startswith("\ufeffid,customer__name,total\r\n3,'=1+1,0.50\r\n".encode())
    saved = names["export_orders"].apply(["paid"]).get()
    with names["storages"]["exports"].open(saved) as file:
        assert file.read().count(b"\r\n") == 21


def test_the_guide_to_the_engine_shows_both_ways_to_answer(run):
    names = run("upstream/streaming/README.md")

    assert b"".join(names["download"](RequestFactory().get("/"))).startswith(b"id,Customer,")
    verified = names["verified_download"](RequestFactory().get("/"))
    assert int(verified["Content-Length"]) == len(b"".join(verified)) > 0
    assert Path("media", names["saved_as"]).read_bytes().startswith(b"id,Customer,")


def test_the_guide_to_encoders_shows_whole_documents(run):
    names = run("upstream/streaming/encoders/README.md")

    assert Path("report.json").read_text().count('"payer"') == names["events"].count() > 0
    assert Path("events.ltsv").read_text().startswith("id:1\tpayer:")


def test_the_guide_to_integrations_shows_views_that_answer(run, capsys):
    names = run("upstream/integrations/README.md")

    request = asked(format="csv", columns="id,payer", order_by="-severity")
    assert names["EventExport"].as_view()(request).getvalue().startswith(b"id,payer\r\n")
    assert capsys.readouterr().out.startswith("driftevent.csv: complete, ")
    listed = names["EventViewSet"].as_view({"get": "list"}, export_permission=None)(request)
    assert listed.getvalue().startswith(b"id,payer\r\n")
    assert names["EventAdmin"](DriftEvent, names["site"]).has_export_permission(request)


def test_the_guide_to_services_shows_a_pdf(run):
    assert Path(run("upstream/services/README.md")["path"]).read_bytes().startswith(b"%PDF-")


@commands("make ")
def test_make_targets_exist(line):
    target = shlex.split(line, comments=True)
    assert subprocess.run([*target, "--dry-run"], cwd=ROOT, capture_output=True, check=False).returncode == 0


@commands("pip install ")
def test_extras_exist(line):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, extras = re.fullmatch(r'pip install "(\w+)\[([\w,]+)\] @ git\+https://<[\w ]+>"', line).groups()
    assert name == declared["name"]
    assert set(extras.split(",")) <= declared["optional-dependencies"].keys()


@pytest.mark.heavy
@commands("pip wheel ")
def test_a_wheel_can_be_built_and_installed(line, tmp_path):
    """The build needs the network, as the guide's reader does."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    commands = line.replace("--wheel-dir dist", f"--wheel-dir {tmp_path}").replace("dist/", f"{tmp_path}/")
    path = f"{venv / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", commands], check=True, cwd=ROOT, env={**os.environ, "PATH": path})
    code = "import upstream, importlib.metadata as m; print(upstream.__version__, m.version('upstream'))"
    printed = subprocess.check_output([venv / "bin/python", "-c", code], text=True, cwd=tmp_path)
    assert printed.split() == [upstream.__version__] * 2


def test_the_changelog_tells_of_the_version():
    changelog = text_of(DOOR).partition("## Changelog")[2]
    assert f"**{upstream.__version__}**" in changelog


@commands("python manage.py ", guides=[guide for guide in GUIDES if guide != DOOR])
def test_commands_run(line, demo_rows, elsewhere, capsysbinary):
    customer, _ = Reported.objects.get_or_create(name="Lakeside Orthopedics")
    ReportSchedule.objects.get_or_create(customer=customer)
    command, *pipe = line.split("|")
    _, _, *arguments = shlex.split(command, comments=True)

    call_command(*arguments)

    assert capsysbinary.readouterr().out or Path("severe.csv.gz").exists() or any(Path("dump").iterdir())
    assert pipe in ([], [" head"])


@commands("python -m benchmarks ")
def test_benchmarks_take_their_options(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    _, _, _, *options = shlex.split(line, comments=True)

    assert run_benchmarks([*options, "--rows=12", "--rounds=1", "--cache=cache"]) == 0

    assert "csv-recipe" in capsys.readouterr().out
    assert Path("figures.json").exists()


@commands("gunicorn ", "uvicorn ", "granian ")
def test_servers_start_and_serve(line, tmp_path):
    variables = {"DATABASE_URL": f"sqlite:///{tmp_path}/demo.sqlite3"}
    assert processes.run("manage.py", "migrate", variables=variables).returncode == 0
    address = ["--bind=127.0.0.1:{port}"] if line.startswith("gunicorn") else ["--port={port}"]
    with running(["-m", *shlex.split(line), *address], **variables) as port:
        status, _, body = get(port, "/accounts/login/?next=/drift-events/")
    assert status == 200
    assert b"<h1>Log in</h1>" in body


@pytest.mark.parametrize("block", [block.text for block in BLOCKS if block.language == "nginx"])
def test_nginx_takes_its_settings(block, tmp_path):
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        assert not services.is_required()
        pytest.skip("there is no nginx; it is in the system package nginx")
    settings = tmp_path / "nginx.conf"
    settings.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; server {{ {block} }} }}")
    command = [program, "-t", "-q", "-e", tmp_path / "log", "-p", tmp_path, "-c", settings]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_every_block_is_run_by_a_test():
    assert [block for block in BLOCKS if block.language not in LANGUAGES] == []
    assert [block for block in BLOCKS if not block.language and not DRAWING.fullmatch(block.text)] == []
    assert [line for line in SHELL if line not in RUN] == []
    assert sum(text_of(guide).count("```") for guide in GUIDES) == 2 * len(BLOCKS)


def prose_of(guide: str) -> str:
    """Return a guide without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", text_of(guide)))


def links_of(guide: str) -> list[str]:
    return [link for link in LINK.findall(prose_of(guide)) if "://" not in link]


def target_of(link: str, guide: str) -> str:
    """Return the file, by its path from the top, that a link of a guide leads to."""
    path = link.partition("#")[0]
    return os.path.relpath((ROOT / guide).parent / path if path else ROOT / guide, ROOT)


def anchors_of(guide: str) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = HEADING.findall(FENCED.sub("", text_of(guide)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", [*GUIDES, *FOR_CONTRIBUTORS])
def test_links_lead_somewhere(guide):
    for link in links_of(guide):
        target, anchor = target_of(link, guide), link.partition("#")[2]
        assert (ROOT / target).exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_door_leads_to_every_guide_and_each_of_them_back():
    others = {*GUIDES} - {DOOR}
    assert {target_of(link, DOOR) for link in links_of(DOOR)} >= others
    assert all(DOOR in {target_of(link, guide) for link in links_of(guide)} for guide in others)


def test_the_door_is_short():
    assert len(text_of(DOOR).splitlines()) <= DOOR_LINES
