# What a contributor and the continuous integration run; `make` alone lists it.
#
# Everything happens in .venv, made from the pinned versions of constraints.txt. Nothing is installed elsewhere.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
WORKERS ?= 4
BENCH ?=
EXAMPLE ?= whoami
# Further flags of maesh up, for instance --acl.
ARGS ?=

PLUGIN_PROJECTS := $(wildcard plugins/*/pyproject.toml)
PLUGIN_FOLDERS := $(patsubst %/pyproject.toml,%,$(PLUGIN_PROJECTS))
PLUGIN_PACKAGES := $(patsubst %/__init__.py,%,$(wildcard plugins/*/maesh_*/__init__.py))
EXAMPLE_PACKAGES := $(patsubst %/__init__.py,%,$(wildcard examples/plugins/*/maesh_*/__init__.py))
EXAMPLES := examples/run.py examples/serving.py $(filter-out examples/grpc,$(patsubst %/server.py,%,$(wildcard examples/*/server.py)))
TEMPLATES := $(patsubst %/maesh_blank/__init__.py,%,$(wildcard maesh_core/templates/plugin/*/maesh_blank/__init__.py))
TEST_FOLDERS := tests $(wildcard plugins/*/tests)
TYPED_TESTS := $(TEST_FOLDERS) $(wildcard examples/plugins/*/tests) $(addsuffix /tests,$(TEMPLATES))
EMPTY :=
# Where mypy finds the packages of plugins when it checks tests.
PLUGIN_PATH := $(subst $(EMPTY) $(EMPTY),:,$(PLUGIN_FOLDERS))
# More workers than cores: many tests wait for processes. What cannot run beside each other: GROUPS in conftest.py.
PARALLEL := --numprocesses $(WORKERS) --benchmark-disable

.DEFAULT_GOAL := help
.PHONY: help conformance install grpc browser dashboard dashboard-test screenshots compiled pure current up test test-fast lint format docs coverage bench peers clean

help:
	@echo 'make up       run a mesh with examples/whoami until Ctrl-C; EXAMPLE=tcp, udp, canary, gateway, acl, grpc or shop selects another example; ARGS=... adds flags of maesh up'
	@echo 'make test     run all tests in 4 parallel workers; WORKERS=n changes their number'
	@echo 'make test-fast  run the quick tests, which start no process, in less than a minute'
	@echo 'make lint     check style, types and imports'
	@echo 'make format   format the code, and wrap the lines of the documentation'
	@echo 'make conformance  run the mesh conformance suite of the Gateway API, and write the reports in plugins/gateway'
	@echo 'make coverage run the tests that start no commands, and print their branch coverage'
	@echo 'make docs     build the documentation website in build/site'
	@echo 'make bench    run all benchmarks, also of the installed peers (50 minutes with all peers)'
	@echo 'make peers    install Envoy, Traefik and Caddy for make bench'
	@echo 'make install  only set up .venv (the other targets do this when needed)'
	@echo 'make grpc     install grpcio into .venv, for the tests and the benchmark that use it'
	@echo 'make browser  install Playwright into .venv, for the tests of the dashboard, which also need the program chromium'
	@echo 'make dashboard  build the dashboard from dashboard/, with node 20 or later; the built files are committed'
	@echo 'make dashboard-test  check the dashboard: types, format, unit tests, and whether the built files are current'
	@echo 'make screenshots  make the pictures of docs/dashboard.md'
	@echo 'make compiled compile the engine and the plugins in this tree with mypyc; needs a C compiler and about two and a half minutes of CPU'
	@echo 'make pure     remove the result of make compiled, so that plain Python runs again'
	@echo 'make clean    remove .venv and the files of tools'

install: $(STAMP)
	@echo "Maesh is installed: $(BIN)/maesh, engine $$($(BIN)/maesh version | sed -n 's/^engine *//p')"

$(STAMP): pyproject.toml constraints.txt testing/pyproject.toml $(PLUGIN_PROJECTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Maesh needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || { echo 'Making a virtual environment in $(VENV)'; $(PYTHON) -m venv $(VENV); }
	@echo 'Installing Maesh and what it needs into $(VENV)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
		--group dev --editable .
	@# An environment of its own for each build takes three seconds; setuptools, which builds all, is in the group dev.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --no-build-isolation \
		--editable ./testing $(foreach folder,$(PLUGIN_FOLDERS),--editable ./$(folder))
	@touch $@

compiled: $(STAMP)
	@$(BIN)/python compiling/engine.py build

pure: $(STAMP)
	@$(BIN)/python compiling/engine.py remove

# What was compiled from other sources than there are now never runs; here it is removed.
current: $(STAMP)
	@$(BIN)/python compiling/engine.py refresh

# grpcio is only for examples/grpc, and for tests that run where it is installed.
GRPC := $(VENV)/.grpc-installed
$(GRPC): $(STAMP)
	@echo 'Installing grpcio into $(VENV)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --group grpc
	@touch $@

grpc: $(GRPC)

# Playwright drives the Chromium of the system; it downloads no browser of its own.
BROWSER := $(VENV)/.browser-installed
$(BROWSER): $(STAMP)
	@echo 'Installing Playwright into $(VENV)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --group browser
	@touch $@

browser: $(BROWSER)

# The lock file fixes every package that builds the page.
dashboard/node_modules/.package-lock.json: dashboard/package-lock.json
	cd dashboard && npm ci
	@touch $@

dashboard: dashboard/node_modules/.package-lock.json
	cd dashboard && npm run build

dashboard-test: dashboard/node_modules/.package-lock.json
	cd dashboard && npm run check && npm test
	cd dashboard && npm run build -- --logLevel warn
	@test -z "$$(git status --porcelain -- plugins/dashboard/maesh_dashboard/built)" || { git status --short -- plugins/dashboard/maesh_dashboard/built; echo 'The built files of the dashboard are not current: commit the result of make dashboard.'; exit 1; }

screenshots: $(BROWSER)
	$(BIN)/python documenting/dashboard_screenshots.py
	$(BIN)/python documenting/failing_service.py

up: current $(if $(filter grpc,$(EXAMPLE)),$(GRPC))
	@$(BIN)/python examples/run.py $(EXAMPLE) $(ARGS)

# Hundreds of commands start in the tests: without bytecode files, each would compile its modules again.
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: current
	$(BIN)/python -m pytest $(PARALLEL) $(TEST_FOLDERS)

test-fast: WORKERS = 2
test-fast: current
	$(BIN)/python -m pytest $(PARALLEL) --dist loadfile -m 'not (integration or scale or slow)' $(TEST_FOLDERS)

conformance: current
	CONFORMANCE_REPORT=$(CURDIR)/plugins/gateway/conformance-report.yaml $(BIN)/python -m pytest --benchmark-disable tests/conformance/test_conformance.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=compiling $(BIN)/mypy setup.py compiling/*.py
	$(BIN)/mypy noxfile.py documenting/*.py charts/*.py
	$(BIN)/mypy $(PLUGIN_PACKAGES) $(EXAMPLE_PACKAGES)
	set -e; for kind in $(TEMPLATES); do $(BIN)/mypy $$kind/maesh_blank; done
	set -e; for folder in $(TYPED_TESTS); do MYPYPATH=$$folder/..:$(PLUGIN_PATH) $(BIN)/mypy --explicit-package-bases --exclude '/data/' $$folder; done
	set -e; for example in $(EXAMPLES); do MYPYPATH=examples $(BIN)/mypy $$example; done
	$(BIN)/mypy examples/grpc  # with examples/ on the path, this folder would be the module grpc
	MYPYPATH=$(PLUGIN_PATH) $(BIN)/mypy --exclude '/(test_|conftest)' benchmarks
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python documenting/wrap_lines.py

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean

# The tests that start no commands, with the plain Python: the compiled form cannot be measured.
coverage: export MAESH_PURE = 1
coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/data
coverage: $(STAMP)
	@rm -rf build/coverage && mkdir -p build/coverage
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/python -m pytest $(TEST_FOLDERS) -m 'not integration' --timeout 300
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

bench: current
	@$(BIN)/python benchmarks/suite.py $(BENCH)

peers: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo 'Installing the peers into $(PEERS)'
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info testing/*.egg-info testing/build plugins/*/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.benchmarks .import_linter_cache .nox maesh_core/_compiled plugins/*/build plugins/*/maesh_*/_compiled dashboard/node_modules
