# Each target sets up what it needs on a fresh machine with Python 3.11 or later.
VENV   := .venv
PYTHON := $(VENV)/bin/python
STACK  ?= dev
TESTS  ?= tests
CASES  ?= ../shared/cases/lint
STEPS  ?= 20000
# Written after a set-up, which runs again when the requirements change.
READY  := $(VENV)/.requirements-dev
AUDIT  := .venv-audit
BENCHED := .venv-bench

.DEFAULT_GOAL := help
.PHONY: help rehearse rehearse-rotation rehearse-fleet preview test cases soak gate faults bench check docs lock sbom audit clean

help: ## List all targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt requirements-dev.txt
	@echo "Setting up $(VENV) ..."
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(AUDIT)/.ready: requirements-audit.txt
	@python3 -m venv $(AUDIT)
	@$(AUDIT)/bin/pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

# Benchmarks run with a user's packages only: some libraries load development packages if they find them.
$(BENCHED)/.ready: requirements.txt
	@python3 -m venv $(BENCHED)
	@$(BENCHED)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

rehearse: $(READY) ## Deploy, renew, verify and destroy a stack on a rehearsal cluster (KEEP=1, STACK=name, CHARTS=dir, WAITS=real|serial)
	@$(PYTHON) -m rehearsal rehearse $(STACK) $(if $(KEEP),--keep) $(if $(CHARTS),--charts $(CHARTS)) \
	  $(if $(WAITS),--waiting-times $(WAITS))

rehearse-rotation: $(READY) ## Rotate the trust anchor under load, and draw it (KEEP=1, STACK=name, CHARTS=dir)
	@$(PYTHON) -m rehearsal rotation $(STACK) $(if $(KEEP),--keep) $(if $(CHARTS),--charts $(CHARTS))

rehearse-fleet: $(READY) ## A fleet that reaches a goal by `pulumi up` alone, killed at random, under load (CHARTS=dir)
	@$(PYTHON) -m rehearsal fleet $(if $(CHARTS),--charts $(CHARTS))

preview: $(READY) ## Show what a stack would create, without a cluster (STACK=name)
	@$(PYTHON) -m rehearsal preview $(STACK)

# Test files run in their order, long ones first: a long file at the end would run alone.
test: $(READY) ## Run every check, and every test except those of soak (TESTS=path for some of them)
	@$(MAKE) --no-print-directory check
	@$(PYTHON) -m rehearsal build
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not soak" $(TESTS)

cases: $(READY) ## Check the linter against inputs with known verdicts (CASES=folder)
	@$(PYTHON) -m tests.unit.lint.cases $(CASES)

soak: $(READY) ## Run the long tests: whole lifetimes, fleets, and a rotation killed at 20 random moments
	@MESHTRUST_KILLS=20 $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m soak \
	  --hypothesis-profile=search $(TESTS)

gate: $(READY) ## Look for a step that the gate lets through and that breaks a handshake (STEPS=20000, SEED=n)
	@$(PYTHON) -m tests.gate_model --steps $(STEPS) $(if $(SEED),--seed $(SEED))

faults: $(READY) ## Run the suite of faults, and record its results (then: make docs)
	@$(PYTHON) -m pytest --record-faults tests/rehearsal/faults

bench: $(BENCHED)/.ready ## Measure commands and checks, and store the numbers (BENCH="checks status rotation")
	@$(BENCHED)/bin/python -m benchmarks $(BENCH)

check: $(READY) ## Check format, lint, types, imports, and the workflows of ci/
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy .
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows ci/github/*.yml
	@$(VENV)/bin/zizmor --offline --no-progress --quiet ci/github/*.yml

docs: $(READY) ## Generate the reference pages and pictures in docs/
	@$(PYTHON) -m docs.generate

lock: $(AUDIT)/.ready ## Write requirements.lock: all dependencies with hashes
	@$(AUDIT)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -o requirements.lock requirements.txt

sbom: $(AUDIT)/.ready ## Write dist/sbom.json, a CycloneDX SBOM of what is deployed
	@mkdir -p dist
	@$(AUDIT)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o dist/sbom.json

audit: sbom ## Look up known vulnerabilities of all that is deployed; a failed look-up is a failure
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

clean: ## Remove all generated files and environments; the rehearsal's cache stays
	rm -rf $(VENV) $(AUDIT) $(BENCHED) .pytest_cache .mypy_cache .ruff_cache .rehearsal build dist *.egg-info
