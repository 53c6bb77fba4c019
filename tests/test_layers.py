"""Imports point in one direction, and the engine stands alone."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import upstream
from upstream.models import Customer
from upstream.streaming import Column, Csv, JsonLines, stream

ROOT = Path(__file__).resolve().parent.parent

# From the engine upwards; a layer imports only what stands before it. Those in one tuple do not know each other.
PACKAGE_LAYERS = [
    ("streaming",),
    ("integrations",),
    ("dumps",),
    ("jobs",),
    ("reporting",),
    ("exports",),
    ("services",),
    ("application",),
]
# The Upstream application itself: its modules may import each other.
APPLICATION = {
    *("access", "admin", "api", "apps", "asgi", "forms", "management", "migrations", "models", "settings"),
    *("templatetags", "urls", "views", "wsgi"),
}
ENGINE_LAYERS = [
    ("errors",),
    ("_optional", "turns"),
    ("columns", "values", "batches", "compression"),
    ("databases",),
    ("encoders", "sources"),
    ("lanes", "pdf"),
    ("plans",),
    ("pipeline",),
    ("targets",),
]


def imports(path, root):
    """Yield (line, dotted name) of every import in a file: in functions, under conditions, and by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    module = list(path.relative_to(root).with_suffix("").parts)
    package = module[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *filter(None, [node.module])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from _named_import(node)


def _named_import(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("import_module", "__import__", "import_string", "optional") and call.args:
        argument = call.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield call.lineno, argument.value


def part_of(name, package):
    """Return which part of `package` a dotted name belongs to; "" is the package's own `__init__`."""
    inside = name.removeprefix(package).split(".")
    return inside[1] if len(inside) > 1 else ""


def violations(root, package, layers, *, same=None):
    """Return a line of text for each import in `package` that does not point down through `layers`.

    `same` gives the layer of a part that is not named as one.
    """
    folder = root.joinpath(*package.split("."))
    parts = {path.stem if path.is_file() else path.name for path in folder.iterdir()} - {"__init__"}
    ranks = {name: rank for rank, names in enumerate(layers) for name in names}
    same = same or (lambda part: part)
    found = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder).with_suffix("").parts
        if inner == ("__init__",):
            continue  # it gathers the public names
        importer = same(inner[0])
        where = path.relative_to(root)
        if importer not in ranks:
            found.append(f"{where}: {importer!r} has no place in the layers")
            continue
        for line, name in imports(path, root):
            if name != package and not name.startswith(f"{package}."):
                continue
            part = part_of(name, package)
            imported = same(part) if part in parts else "__init__"
            if imported != importer and ranks.get(imported, len(layers)) >= ranks[importer]:
                found.append(f"{where}:{line}: {importer!r} imports {imported!r} ({name})")
    return found


def application_part(part):
    return "application" if part in APPLICATION else part


def test_the_package_imports_in_one_direction():
    assert violations(ROOT, "upstream", PACKAGE_LAYERS, same=application_part) == []


def test_the_engine_imports_in_one_direction():
    assert violations(ROOT, "upstream.streaming", ENGINE_LAYERS) == []


def test_the_package_imports_no_test_or_benchmark():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / "upstream").rglob("*.py"))
        for line, name in imports(path, ROOT)
        if name.split(".")[0] in ("tests", "benchmarks", "manage")
    ]
    assert found == []


def test_importing_the_package_imports_nothing_else():
    [version] = ast.parse((ROOT / "upstream" / "__init__.py").read_text(encoding="utf-8")).body
    assert ast.unparse(version) == f"__version__ = {upstream.__version__!r}"


@pytest.mark.parametrize("module", ["upstream.streaming", "upstream.services"])
def test_it_is_importable_without_settings_and_without_optional_packages(module):
    code = f"""
import sys
optional = ("weasyprint", "pikepdf", "pyarrow", "psycopg", "isal", "zstandard", "celery", "rest_framework", "tqdm")
for name in (*optional, "uharfbuzz", "bidi", "pymupdf_fonts", "PIL"):
    sys.modules[name] = None  # whoever imports it gets ModuleNotFoundError
import {module}
from django.apps import apps
from django.conf import settings
assert not settings.configured, "settings were read"
assert not apps.ready
"""
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment, cwd=ROOT)


ENGINE = ROOT / "upstream" / "streaming"
MOST_MODULES = 14


def modules_of(run):
    """Return the engine's modules whose functions are called while `run` runs."""
    called = set()

    def note(frame, event, _):
        if event == "call":
            called.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return {str(Path(name).relative_to(ENGINE)) for name in called if name.startswith(f"{ENGINE}{os.sep}")}


@pytest.mark.parametrize("encoder", [Csv(), JsonLines(), Csv(quoting="all")], ids=["csv", "ndjson", "quoted"])
@pytest.mark.parametrize(
    "columns",
    [["id", "name"], ["id", Column("name", value=str.upper)], ["id", Column(lambda row: row.name, header="name")]],
    ids=["fields", "a function", "computed"],
)
def test_a_row_passes_few_modules_once_its_way_is_planned(transactional_database, encoder, columns):
    Customer.objects.using(transactional_database).bulk_create(Customer(name=name) for name in "abc")
    rows = Customer.objects.using(transactional_database).order_by("pk")
    b"".join(stream(rows, columns, encoder))  # what happens once in a process is no row's way
    chunks = stream(rows, columns, encoder)
    passed = modules_of(lambda: b"".join(chunks))
    assert chunks.rows == 3
    assert len(passed) <= MOST_MODULES, sorted(passed)


def test_the_engine_knows_no_vendor_and_no_encoder_by_name():
    vendors = re.compile(r"\bvendor\b|\b(sqlite|mysql|mariadb|postgres(ql)?|oracle)\b")
    encoders = re.compile(
        r"(isinstance|getattr|hasattr|type)\((self\.)?encoder\b|import (Csv|Json|JsonLines|Xlsx|Pdf|Parquet)\b"
    )
    found = []
    for path in sorted(ENGINE.rglob("*.py")):
        inner = path.relative_to(ENGINE)
        code = _without_docstrings(path)
        if inner.parts[0] != "databases" and vendors.search(code):
            found.append(f"{inner} knows a database")
        if inner.parts[0] != "encoders" and encoders.search(code) and inner.name not in DEFAULT_ENCODER:
            found.append(f"{inner} knows an encoder")
    assert found == []


# Where Csv() is the default of an argument, and where the public names are gathered.
DEFAULT_ENCODER = {"__init__.py", "pipeline.py", "plans.py"}


def _without_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


# What writes a format; `csv.reader` and `json.loads` read, and so may the application.
WRITERS = (
    *("openpyxl", "xlsxwriter", "pyexcelerate", "weasyprint", "reportlab", "pyarrow", "orjson", "msgspec"),
    "pandas",
)
READER = ROOT / "upstream" / "services" / "export_checks.py"  # checks files with readers that write too
WRITING = ("csv.writer", "csv.DictWriter", "json.dump", "json.dumps", "json.JSONEncoder")


def writings(path, root):
    """Yield (line, name) of what a file imports or names to write CSV, JSON, Excel or PDF."""
    yield from ((line, name) for line, name in imports(path, root) if name.split(".")[0] in WRITERS)
    yield from ((line, name) for line, name in imports(path, root) if name in WRITING)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WRITING:
            yield node.lineno, ast.unparse(node)


def test_the_application_writes_no_format_itself():
    application = [path for path in (ROOT / "upstream").rglob("*.py") if not path.is_relative_to(ENGINE)]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(application)
        if path != READER and path.relative_to(ROOT).parts[1] not in ("integrations", "dumps", "jobs")
        for line, name in writings(path, ROOT)
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import openpyxl",
        "from weasyprint import HTML",
        "import_module('xlsxwriter')",
        "from csv import writer",
        "import csv\ncsv.DictWriter(file, [])",
        "import json\njson.dump(rows, file)",
    ],
)
def test_what_writes_a_format_is_found(code, tmp_path):
    (tmp_path / "module.py").write_text(code)
    assert list(writings(tmp_path / "module.py", tmp_path))


class TestTheCheckItself:
    """A check that cannot fail proves nothing."""

    LAYERS = (("low",), ("middle",), ("left", "right"))

    @pytest.fixture
    def check(self, tmp_path):
        package = tmp_path / "house" / "engine"
        (package / "low").mkdir(parents=True)
        for name in ("__init__", "low/__init__", "low/inner", "low/other", "middle", "left", "right"):
            (package / f"{name}.py").touch()

        def check(module, code):
            (package / f"{module}.py").write_text(code)
            return violations(tmp_path, "house.engine", self.LAYERS)

        return check

    @pytest.mark.parametrize(
        ("module", "code", "imported"),
        [
            ("low/inner", "import house.engine.middle", "middle"),
            ("low/inner", "from house.engine.middle import name", "middle"),
            ("low/inner", "from house.engine import middle", "middle"),
            ("low/inner", "from house.engine import name", "__init__"),
            ("low/inner", "import house.engine", "__init__"),
            ("low/inner", "from ..middle import name", "middle"),
            ("low/inner", "from .. import middle", "middle"),
            ("low/__init__", "from ..middle import name", "middle"),
            ("low/inner", "def later():\n    from house.engine import left", "left"),
            ("low/inner", "try:\n    import house.engine.left as x\nexcept ImportError:\n    pass", "left"),
            ("low/inner", "if TYPE_CHECKING:\n    from house.engine.left import X", "left"),
            ("low/inner", "import_module('house.engine.left')", "left"),
            ("low/inner", "importlib.import_module('house.engine.left')", "left"),
            ("middle", "from . import left", "left"),
            ("middle", "from . import name", "__init__"),
            ("left", "from .right import name", "right"),
        ],
    )
    def test_it_finds_an_import_that_points_up(self, check, module, code, imported):
        [line] = check(module, code)
        assert line.startswith(f"house/engine/{module}.py:")
        assert f"imports {imported!r}" in line

    @pytest.mark.parametrize(
        ("module", "code"),
        [
            ("low/inner", "from house.engine.low import other"),
            ("low/inner", "from . import other"),
            ("low/__init__", "from .inner import name"),
            ("middle", "from house.engine.low.inner import name"),
            ("left", "from . import low, middle"),
            ("left", "import house.engineering, json, house"),
            ("__init__", "from house.engine import left, right, middle"),
        ],
    )
    def test_it_lets_pass_what_points_down(self, check, module, code):
        assert check(module, code) == []

    def test_it_finds_a_module_that_has_no_place(self, check):
        assert check("stray", "") == ["house/engine/stray.py: 'stray' has no place in the layers"]
