# make demo: set up, then the demo at http://127.0.0.1:7860 with the bundled models
# make package: wheel and sdist, checked, installed into an empty environment and run there
# make lock: requirements-test.lock, every package of the test environment with its version, from requirements-test.txt
# make lowest: the tests of the core with the lowest versions that pyproject.toml allows
# make test: set up, a browser where there is none, then the tests: on two processes, but those of the demo's page,
# whose browser wants both cores; without those marked as slow
# make test-slow: those
# make coverage: all of them, with the share of lines and branches of each file that they went through
# make lint: ruff, and mypy, whose settings are in pyproject.toml
# make reproduce CELEBA=DIR CITYSCAPES=DIR: trains on the official data sets, scores their splits, writes the tables of
# the paper (docs/recipes.md); REPRODUCE= takes more options of benchmarks.reproduce
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup browser demo test test-slow coverage lint lock package lowest reproduce

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
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile --ignore-glob 'tests/test_page_*.py'
	$(BIN)/python -m pytest -m 'not slow' tests/test_page_*.py

test-slow: setup browser
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --ignore-glob 'tests/test_page_*.py'
	$(BIN)/python -m pytest -m slow tests/test_page_*.py

# The tests, with the lines and branches of each file that they went through, those in other processes as well.
coverage: setup browser
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report= --ignore-glob 'tests/test_page_*.py'
	$(BIN)/python -m pytest --cov --cov-append --cov-report=term tests/test_page_*.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# For all systems, and Python 3.11, the oldest that the pinned numpy and scipy are for, or newer. From PyPI, and by
# nothing that a machine is set up with: no mirror's address is to be in the file.
lock: setup
	$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --default-index https://pypi.org/simple \
		--no-emit-index-url --custom-compile-command "make lock" --output-file requirements-test.lock requirements-test.txt

package: setup
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*
	deploy/check_package.sh dist/*.whl checkpoints/streets

reproduce: setup
	$(BIN)/python -m benchmarks.reproduce $(if $(CELEBA),--celebamask-hq "$(CELEBA)") \
		$(if $(CITYSCAPES),--cityscapes "$(CITYSCAPES)") $(REPRODUCE)

# In an environment of its own, made anew each time; of what runs the tests not the lowest there ever was.
lowest: setup
	rm -rf build/lowest
	$(BIN)/uv venv --quiet --python $(PYTHON) build/lowest
	$(BIN)/uv pip install --quiet --no-cache --python build/lowest --resolution lowest-direct ".[train,eval,demo]"
	$(BIN)/uv pip install --quiet --no-cache --python build/lowest pytest pytest-timeout hypothesis gradio-client playwright
	build/lowest/bin/python -m pytest -p no:cacheprovider tests/test_pipeline.py tests/test_loop.py tests/test_cli.py \
		tests/test_images.py tests/test_training.py tests/test_restorer.py tests/test_demo_api.py
