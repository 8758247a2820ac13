# make demo: set up, then the demo at http://127.0.0.1:7860 with the bundled models
# make test: set up, a browser where there is none, then the tests: on two processes, but those of the demo's page,
# whose browser wants both cores
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup browser demo test lint

setup: $(VENV)/.installed

# --no-cache-dir: the wheels are several GB and are needed once.
$(VENV)/.installed: requirements.txt requirements-test.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-cache-dir --disable-pip-version-check -r requirements-test.txt
	$(BIN)/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/python app.py

# Debian's chromium, or playwright's own, which wants libraries that only root can install. Without either the tests of
# the page are left out, which the last line of their run says.
browser: setup
	@command -v chromium > /dev/null || $(BIN)/playwright install $$([ $$(id -u) != 0 ] || echo --with-deps) chromium \
		|| $(BIN)/playwright install chromium || true

test: setup browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore-glob 'tests/test_page_*.py'
	$(BIN)/python -m pytest tests/test_page_*.py

lint: setup
	$(BIN)/ruff check .
