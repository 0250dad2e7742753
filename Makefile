# The one list of commands; `make` alone prints it.
# Needs python3 (3.11 to 3.13, with venv) and make; everything else comes from the package registry.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
RUN := .venv/bin/
MEMBERS := $(wildcard protos/pyproject.toml services/*/pyproject.toml orchestrator/pyproject.toml gateway/pyproject.toml)
CLIP := examples/clip
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo test check test-slow lint format types protos protos-check lock upgrade \
	audit real-models nats-server s3-server models-eval kill-test bench certs clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "$(PYTHON) must be Python 3.11, 3.12 or 3.13; name another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .tools || \
		{ echo "$(PYTHON) has no working venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

uv.lock: lock/uv.lock.in scripts/lock.py | $(UV)
	@.tools/bin/python scripts/lock.py render

.venv/.installed: uv.lock pyproject.toml $(MEMBERS) | $(UV)
	@$(UV) sync --locked --python $(PYTHON)
	@touch $@

install: .venv/.installed ## Install everything into .venv, as locked

demo: install ## Turn the bundled Hindi clip into Hindi and English subtitles, offline
	@$(RUN)python -m scripts.demo

# One more than the processors of the smallest machine: a third of the time they wait for processes.
test: install ## Run the tests (the default tier)
	@$(RUN)pytest -n 3 --dist loadfile

check: test lint types protos-check ## Check what a change must pass; .ci/run does

test-slow: install ## Run the tests that take minutes
	@$(RUN)pytest -m slow

lint: install ## Check style, formatting, who imports whom, and the contracts
	@$(RUN)ruff check
	@$(RUN)ruff format --check
	@$(RUN)lint-imports --no-cache
	@cd protos && ../$(RUN)buf lint && ../$(RUN)buf format --diff --exit-code

format: install ## Format the code and the contracts
	@$(RUN)ruff check --fix-only --quiet
	@$(RUN)ruff format
	@cd protos && ../$(RUN)buf format --write

types: install ## Check the types
	@$(RUN)pyright --warnings

protos: install ## Generate Python code from protos/
	@$(RUN)python scripts/generate_protos.py

protos-check: install ## Check that the generated code is up to date and that no contract breaks main's
	@$(RUN)python scripts/generate_protos.py --check
	@cd protos && if git rev-parse --verify --quiet main >/dev/null; \
		then ../$(RUN)buf breaking --against '../.git#branch=main,subdir=protos'; \
		else echo "no branch main to compare the contracts with" >&2; fi

lock: $(UV) ## Lock the dependencies after a change to a pyproject.toml
	@test -e uv.lock || .tools/bin/python scripts/lock.py render
	@$(UV) lock
	@.tools/bin/python scripts/lock.py store

upgrade: $(UV) ## Lock the newest dependencies that the pyproject.toml files allow
	@$(UV) lock --upgrade
	@.tools/bin/python scripts/lock.py store

audit: install ## Check the dependencies for known vulnerabilities (asks OSV) and their licences
	@$(RUN)python scripts/audit.py out/licences.json

real-models: install ## Fetch real models and recordings into models/real, for slow tests and benchmarks
	@$(RUN)python -m scripts.real_models

nats-server: install ## Fetch nats-servers into .tools, for the tests of several services
	@$(RUN)python -m scripts.nats_server trixie sid

s3-server: install ## Fetch a server of S3 into .tools, for the tests of files in a bucket
	@$(RUN)python -m scripts.s3_server

models-eval: install ## Print the held-out figures of the bundled models (needs espeak-ng)
	@$(RUN)python models/evaluate.py

kill-test: install ## Kill the processes of a job at random moments and compare the results
	@$(RUN)python -m scripts.kill_test

bench: install ## Measure the services against the libraries that they use
	@$(RUN)python -m benchmarks

certs: install ## Make a development CA and certificates for TLS, in out/certs
	@$(RUN)python scripts/make_certs.py out/certs

clean: ## Remove environments, caches and outputs
	rm -rf .venv .tools uv.lock out .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
