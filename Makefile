# Each of these sets up all it needs on a fresh machine: Python 3.11 or later and this checkout are enough.
VENV   := .venv
PYTHON := $(VENV)/bin/python
STACK  ?= dev
TESTS  ?= tests
CASES  ?= ../shared/cases/lint
STEPS  ?= 20000
# Where the last set-up left off; it is done again when the requirements change.
READY  := $(VENV)/.requirements-dev
AUDIT  := .venv-audit
BENCHED := .venv-bench

.DEFAULT_GOAL := help
.PHONY: help rehearse rehearse-rotation preview test cases soak gate faults bench check docs lock sbom audit clean

help: ## Show what can be made
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

# What is measured is what a user has: the development set-up brings packages that others load where they find them.
$(BENCHED)/.ready: requirements.txt
	@python3 -m venv $(BENCHED)
	@$(BENCHED)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

rehearse: $(READY) ## The main job on a rehearsal cluster: deploy, renew, verify, destroy (KEEP=1, STACK=name, CHARTS=dir)
	@$(PYTHON) -m rehearsal rehearse $(STACK) $(if $(KEEP),--keep) $(if $(CHARTS),--charts $(CHARTS))

rehearse-rotation: $(READY) ## A rotation of the trust anchor under load, and its picture (KEEP=1, STACK=name, CHARTS=dir)
	@$(PYTHON) -m rehearsal rotation $(STACK) $(if $(KEEP),--keep) $(if $(CHARTS),--charts $(CHARTS))

preview: $(READY) ## Show the plan of a stack without any cluster (STACK=name)
	@$(PYTHON) -m rehearsal preview $(STACK)

# Files are taken in their order, which has the long ones first: a long one that is left for the end runs alone.
test: $(READY) ## Pass every check, and every test but those of soak (TESTS=path for some of them)
	@$(MAKE) --no-print-directory check
	@$(PYTHON) -m rehearsal build
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not soak" $(TESTS)

cases: $(READY) ## Hold the linter against inputs whose verdicts are known (CASES=folder)
	@$(PYTHON) -m tests.unit.lint.cases $(CASES)

soak: $(READY) ## The long tests: whole lives and whole fleets, and a rotation that is killed at 20 random moments
	@MESHTRUST_KILLS=20 $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m soak $(TESTS)

gate: $(READY) ## Look for a step that the gate lets through and that breaks a handshake (STEPS=20000, SEED=n)
	@$(PYTHON) -m tests.gate_model --steps $(STEPS) $(if $(SEED),--seed $(SEED))

faults: $(READY) ## The suite of faults, and keep what it finds out (then: make docs)
	@$(PYTHON) -m pytest --record-faults tests/rehearsal/faults

bench: $(BENCHED)/.ready ## Measure what commands and guard cost, and keep the numbers (BENCH="guard status rotation")
	@$(BENCHED)/bin/python -m benchmarks $(BENCH)

check: $(READY) ## Format, lint and types, and the workflows of ci/
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy .
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows ci/github/*.yml
	@$(VENV)/bin/zizmor --offline --no-progress --quiet ci/github/*.yml

docs: $(READY) ## Write the references in docs/ from Pulumi.yaml and the commands
	@$(PYTHON) -m docs.generate

lock: $(AUDIT)/.ready ## Write requirements.lock: all that requirements.txt leads to, with hashes
	@$(AUDIT)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -o requirements.lock requirements.txt

sbom: $(AUDIT)/.ready ## Write dist/sbom.json, a CycloneDX bill of what is deployed
	@mkdir -p dist
	@$(AUDIT)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o dist/sbom.json

audit: sbom ## Look for known weaknesses in all that is deployed; what could not be looked up is a failure
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

clean: ## Remove what was made here; the rehearsal's cache stays
	rm -rf $(VENV) $(AUDIT) $(BENCHED) .pytest_cache .mypy_cache .ruff_cache .rehearsal build dist *.egg-info
