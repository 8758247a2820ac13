# make demo: set up, then the demo at http://127.0.0.1:7860 with the bundled models
# make test: set up, then the tests: on two processes, but those of the demo, whose browser wants both cores
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup demo test lint

setup: $(VENV)/.installed

# --no-cache-dir: the wheels are several GB and are needed once.
$(VENV)/.installed: requirements.txt requirements-test.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-cache-dir --disable-pip-version-check -r requirements-test.txt
	$(BIN)/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/python app.py

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/test_app.py
	$(BIN)/python -m pytest tests/test_app.py

lint: setup
	$(BIN)/ruff check .
