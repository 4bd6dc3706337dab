# Two commands for everybody: `make demo` and `make test`. The rest is for engineers.
# Needs Python 3.11 or newer with pip; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One for each core and three that wait: on two cores the whole of `make test` is about
# 1,000 s of work, and more than half of its time with three workers went into waiting
# for brokers, processes and clocks.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 3)
SOURCES := protocol keystore transport gateway firmware_emulator bridge certs tools
CODE := $(SOURCES) tests examples

.PHONY: brokers faults help demo test deep check bench bench-fleet explore simulate fuzz format vectors docs lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## a whole rental, end to end, on this machine
	@$(BIN)/freefloat demo

test: $(VENV)/.dev ## every test that this machine has the servers for
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal --cov=protocol --cov=gateway.core --cov-branch \
	  --cov-report=term:skip-covered --cov-fail-under=100 $(PYTEST_ARGS)

deep: $(VENV)/.dev ## every case of the tests that try a part each time: hours
	FREEFLOAT_DEEP=1 $(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal \
	  --timeout=3600 $(PYTEST_ARGS)

check: $(VENV)/.dev ## lint, format, types, architecture, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(CODE) docs deploy README.md CHANGELOG.md CONTRIBUTING.md

bench: $(VENV)/.dev ## figures and ratios, as a table and in var/bench.json
	$(BIN)/python -m tests.bench --json var/bench.json

CARS ?= 14000
RATE ?= 10000
SECONDS ?= 30
bench-fleet: $(VENV)/.dev ## a fleet's connections and frames on this machine: minutes
	$(BIN)/python -m tests.bench.fleet --cars $(CARS) --rate $(RATE) --seconds $(SECONDS) \
	  --json var/bench-fleet.json

explore: $(VENV)/.dev ## every reachable state of the car's mind, with the large alphabet
	$(BIN)/python -m tests.gateway.core.exploration --deep

SEEDS ?= 1000
FIRST ?= 1
SIM_WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
simulate: $(VENV)/.dev ## SEEDS worlds of cars, bridge and hostile link; SEED=N repeats one
	$(BIN)/python -m tests.simulation --workers $(SIM_WORKERS) \
	  $(if $(LIFE),--life $(LIFE)) $(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS))

faults: $(VENV)/.dev ## the faults of broker, store and bridge, in their long form
	FREEFLOAT_DEEP=1 $(BIN)/pytest --timeout=900 tests/tools/test_broker_faults.py \
	  tests/bridge/test_postgres_faults.py tests/bridge/test_postgres_failover.py \
	  tests/bridge/test_rolling_restart.py tests/bridge/test_restoration.py tests/bridge/test_replicas.py \
	  tests/bridge/test_real_broker.py tests/bridge/test_failpoints.py \
	  tests/bridge/test_real_failpoints.py tests/bridge/test_stream_faults.py \
	  tests/bridge/test_webhook_faults.py tests/bridge/test_wild_service.py \
	  tests/firmware_emulator/test_weather.py tests/firmware_emulator/test_bad_links.py \
	  tests/gateway/uplink/test_outages.py tests/tools/test_rogues.py \
	  tests/gateway/uplink/test_patience.py tests/bridge/test_flood.py tests/bridge/test_giant_backlog.py \
	  tests/bridge/test_full_memory.py tests/bridge/test_certificate_end.py

HIVEMQ := var/hivemq
EXTENSION := deploy/hivemq/extension
brokers: $(VENV)/.dev $(HIVEMQ)/.made ## our programs at HiveMQ; needs Maven, a JDK and the network
	$(BIN)/pytest --timeout=400 tests/broker/hivemq

$(HIVEMQ)/.made: deploy/hivemq/pom.xml tests/broker/hivemq/Embedded.java \
  $(EXTENSION)/CertificateAccess.java $(EXTENSION)/hivemq-extension.xml
	mvn -q -B -f deploy/hivemq/pom.xml dependency:copy-dependencies \
	  -DoutputDirectory=$(CURDIR)/$(HIVEMQ)/lib
	mkdir -p $(HIVEMQ)/extensions/freefloat-access
	javac -nowarn -d $(HIVEMQ)/classes -cp '$(HIVEMQ)/lib/*' tests/broker/hivemq/Embedded.java
	javac -nowarn -d $(HIVEMQ)/access -cp '$(HIVEMQ)/lib/*' $(EXTENSION)/CertificateAccess.java
	jar --create --file $(HIVEMQ)/extensions/freefloat-access/freefloat-access.jar \
	  -C $(HIVEMQ)/access . -C $(EXTENSION) META-INF
	cp $(EXTENSION)/hivemq-extension.xml $(HIVEMQ)/extensions/freefloat-access/
	touch $@

FUZZ_S ?= 600
fuzz: $(VENV)/.fuzz ## fuzz every reader of foreign bytes for FUZZ_S seconds each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_S) $(FUZZ_TARGETS)

format: $(VENV)/.dev ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

vectors: $(VENV)/.dev ## make the protocol's test vectors anew
	$(BIN)/python -m tools.vectors
	$(BIN)/python -m tests.edge

docs: $(VENV)/.dev ## make generated documents anew
	$(BIN)/python -m tools.states
	$(BIN)/python -m tools.worked_examples
	$(BIN)/python -m tools.clauses
	$(BIN)/python -m tools.requirements
	$(BIN)/python -m tools.invariants
	$(BIN)/python -m tools.asyncapi

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache .coverage

# A system Python without ensurepip makes an environment without pip; its own pip then
# installs into it. That is why pip is called from outside with --python.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "freefloat needs Python 3.11 or newer; set PYTHON=/your/python3.11"; exit 1; }
	@echo "making an environment in $(VENV)"
	@$(PYTHON) -m venv --without-pip $(VENV)

PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-deps

$(VENV)/.demo: $(BIN)/python requirements/demo.txt pyproject.toml
	@echo "installing pinned dependencies (about half a minute)"
	@$(INSTALL) --require-hashes -r requirements/demo.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python requirements/dev.txt pyproject.toml
	@echo "installing pinned dependencies and tools (about a minute)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev requirements/fuzz.txt
	@$(INSTALL) --require-hashes -r requirements/fuzz.txt
	@touch $@

# Hashes and versions only: no file may say where packages come from.
LOCK_ALONE := pip-compile --quiet --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-emit-options --no-header --allow-unsafe --strip-extras
LOCK := $(LOCK_ALONE) pyproject.toml

lock: ## pin dependencies anew (needs the network)
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet pip-tools
	PATH="$(CURDIR)/$(VENV)-lock/bin:$$PATH" && \
	  $(LOCK) requirements/dev.in --all-extras -o requirements/dev.txt && \
	  $(LOCK_ALONE) requirements/fuzz.in -o requirements/fuzz.txt && \
	  $(LOCK_ALONE) requirements/build.in -c requirements/dev.txt \
	    -o requirements/build.txt && \
	  $(LOCK) requirements/build.in -c requirements/dev.txt --extra emulator \
	    --extra bridge --extra broker -o requirements/demo.txt && \
	  $(LOCK) -c requirements/dev.txt --extra vehicle --extra tracing \
	    -o requirements/vehicle.txt && \
	  $(LOCK) -c requirements/dev.txt --extra vehicle --extra tracing --extra nfc \
	    -o requirements/nfc.txt && \
	  $(LOCK) -c requirements/dev.txt --extra bridge --extra postgres --extra kafka \
	    --extra jetstream --extra tracing -o requirements/bridge.txt && \
	  $(PYTHON) -m tools.parts
	rm -rf $(VENV)-lock
