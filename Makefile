# Everything a person needs; each target sets up what it uses.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
# Slots use one core each; BLAS threads on top of them only get in the way.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help setup demo demo-service test lint bench bars lock clean

help:
	@echo "make demo          watch a small observatory observe (sets everything up first)"
	@echo "make demo-service  the same on PostgreSQL, S3, Kafka and Redis, with fan-out and writer"
	@echo "make test          run the tests"
	@echo "make setup         make .venv with the locked dependencies"
	@echo "make lint          ruff, mypy, hadolint and friends"
	@echo "make bench         run the benchmarks"
	@echo "make bars          print every figure that is promised, one JSON line each"
	@echo "make lock          resolve the dependencies anew into requirements.lock"

setup: $(STAMP)

$(STAMP): requirements.lock setup.cfg pyproject.toml
	@bash tools/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

demo: setup
	$(BIN)/prompt-processing demo $(ARGS)

demo-service: setup
	$(BIN)/prompt-processing demo --service --out demo-service-out $(ARGS)

# Two at once, since most tests wait for servers and processes; each has servers
# of its own. A test that a busy machine upset gets a second chance, and is shown.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile \
		--reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint --config .hadolint.yaml Dockerfile
	$(BIN)/yamllint --strict deploy

bench: setup
	$(BIN)/python -m benchmarks.visit_overhead $(ARGS)

bars: setup
	$(BIN)/python -m benchmarks.bars $(ARGS)

lock:
	$(BIN)/uv pip compile --system-certs --universal --python-version 3.11 --extra dev --generate-hashes --no-header \
		setup.cfg -o requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-out demo-service-out .servers
