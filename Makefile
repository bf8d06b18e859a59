# Needs Python 3.11+ and make; sets up everything else in .venv.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/ready
DEPLOY := .venv/deploy
PROTOS := $(shell find protos -name '*.proto')

.DEFAULT_GOAL := help
.PHONY: help run test soak lint lint-protos lint-deploy lock check-image format protos bench clean

help:  ## Show this.
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: $(READY)  ## Start the gateway on a small cell of its own: HTTP on 8888, gRPC on 50051.
	$(BIN)/saxgw dev

test: $(READY) tests/node/node_modules  ## Run all tests, several at a time. PYTEST="-n 0 -k name -x" passes options on.
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST)

soak: $(READY)  ## Break a cell at random under load, with another seed each time. STEPS=500 SEED=1 say how.
	SAXGW_SOAK_STEPS=$(or $(STEPS),500) SAXGW_SOAK_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/python -m pytest tests/test_soak.py

lint: $(READY)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-protos: $(READY) .ci/node_modules  ## Check the protos with buf; needs Node.
	rm -rf third_party && mkdir -p third_party/google/api third_party/google/rpc
	$(BIN)/python -c 'import google.api as g, shutil; [shutil.copy(f"{g.__path__[0]}/../{n}.proto", f"third_party/google/{n}.proto") \
		for n in ("api/annotations", "api/field_behavior", "api/http", "api/resource", "rpc/code", "rpc/status")]'
	.ci/node_modules/.bin/buf lint
	.ci/node_modules/.bin/buf format --diff --exit-code protos

lint-deploy: $(DEPLOY)  ## Check the Dockerfile, the shell scripts, and that the lock files agree with pyproject.toml.
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run .ci/check-package .ci/check-image
	cat *.lock >.venv/locks && $(MAKE) --no-print-directory --silent lock
	@cat *.lock | cmp --quiet .venv/locks || { echo "The lock files did not agree with pyproject.toml; now they do. Commit them." >&2; exit 1; }

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
lock: $(DEPLOY)  ## Fix what the image installs. What is fixed stays as far as it may; UPGRADE=1 takes the newest.
	$(LOCK) pyproject.toml --extra jwt --extra otel --output-file requirements.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - --output-file requirements-build.lock

check-image: $(READY)  ## Build the image and run it, with podman; needs Debian and root, and says what else.
	.ci/check-image

format: $(READY)  ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(READY)  ## Generate the Python code of the protos again.
	$(BIN)/python hatch_build.py

bench: $(READY)  ## Measure what calls, streams, JSON and a gateway beside an application cost, what workers bring, and what large bodies do to others.
	$(BIN)/python -m bench
	$(BIN)/python -m bench.streaming
	$(BIN)/python -m bench.transcoding
	$(BIN)/python -m bench.large_bodies
	$(BIN)/python -m bench.overload
	$(BIN)/python -m bench.recovery
	$(BIN)/python -m bench.sidecar
	$(BIN)/python -m bench.held_bytes
	$(BIN)/python -m bench.chain
	$(BIN)/python -m bench.workers

clean:  ## Remove everything that was set up or generated.
	rm -rf .venv third_party tests/node/node_modules .ci/node_modules
	find saxgw tests bench -name __pycache__ -prune -exec rm -rf {} +
	find saxgw -name '*_pb2*.py*' -delete -o -name '*.binpb' -delete

$(READY): pyproject.toml hatch_build.py $(PROTOS)
	@test -n "$(PYTHON)" || { echo "saxgw needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON); this takes about a minute, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "Installing saxgw and what it needs (the protos are compiled on the way)."
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --editable '.[otel]' --group dev
	@touch $@

$(DEPLOY): $(READY)
	@echo "Installing what checks the image and the manifests."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group deploy
	@touch $@

# Tests with a Node client are skipped where Node is missing.
tests/node/node_modules: tests/node/package-lock.json
	@if command -v npm >/dev/null; then \
		echo "Installing the Node client that some tests use."; npm ci --prefix tests/node --no-audit --no-fund && touch $@; \
	else echo "npm was not found: tests with a Node client will be skipped."; fi

# No lock file: buf has one binary for each platform, and one lock file does not serve all. Its version is exact.
.ci/node_modules: .ci/package.json
	npm install --prefix .ci --no-package-lock --no-audit --no-fund
	@touch $@
