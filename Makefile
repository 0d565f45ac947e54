# One command on a fresh machine: `make demo` or `make test`.  Needs Python >= 3.10, and a C compiler for speed.
#
#   FASTBPE_BUILD=release|debug|asan|pure   how the native modules are built; a change rebuilds
#   FASTBPE_BACKEND=native|python           which backend runs

PYTHON ?= python3
MODE := $(or $(FASTBPE_BUILD),release)
BIN := .venv/bin
BUILT := .venv/.built-$(MODE)
NATIVE := $(wildcard fastbpe/core/*.pyx fastbpe/core/*.pxd fastbpe/core/include/*.h)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench exact stream-proof train-proof limits sanitize clean

help:
	@echo 'make demo           train, encode, stream and decode a novel; compare, and print a table'
	@echo 'make test           lint, types, the tests on both backends, one pass of the benchmarks'
	@echo 'make lint           ruff and mypy --strict'
	@echo 'make bench          pytest-benchmark over every part'
	@echo 'make exact DATA=DIR ids against the reference tokenizers over a folder of texts'
	@echo 'make stream-proof   streaming gives the same ids, in bounded memory'
	@echo 'make train-proof    training against a quadratic reference and the other trainers'
	@echo 'make limits         time and memory grow in proportion on hostile texts'
	@echo 'make sanitize       the native modules under AddressSanitizer and UBSan (gcc, Linux)'
	@echo 'make clean          remove what was built'

.venv/.tools: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "fastbpe needs Python 3.10 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || $(PYTHON) -m virtualenv .venv \
	  || { rm -rf .venv; echo 'no virtual environment: install python3-venv, or pip install virtualenv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet 'setuptools>=77' 'cython>=3.1,<3.4' 'numpy>=2'
	@touch $@

# Built without isolation, so a rebuild after a change of a .pyx takes the compiler's time only.  Modules of another
# mode are removed first: pure must not find them, and a release must not keep debug ones.
$(BUILT): .venv/.tools setup.py pyproject.toml $(NATIVE)
	rm -f .venv/.built-* fastbpe/core/*.so
	FASTBPE_BUILD=$(MODE) $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	@$(BIN)/python -c 'import glob; glob.glob("fastbpe/core/*.so") or print("fastbpe: built without native modules")'
	@touch $@

lint: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/mypy --strict fastbpe

# The second run repeats on the Python backend what the first ran on the native one; tests that take both by
# themselves are left out of it.
test: lint
	$(BIN)/python -m pytest tests -n 2
ifneq ($(FASTBPE_BACKEND),python)
	@if $(BIN)/python -c 'import fastbpe, sys; sys.exit(fastbpe.backend() != "native")'; then set -x; \
	  FASTBPE_BACKEND=python $(BIN)/python -m pytest tests -n 2 -m 'not native_only and not both_backends'; \
	else echo 'no native modules in this build: the run above was the Python backend, no second one'; fi
endif
	$(BIN)/python -m pytest benchmarks --benchmark-disable -q

demo: $(BUILT)
	$(BIN)/python -m benchmarks.demo

bench: $(BUILT)
	$(BIN)/python -m pytest benchmarks --benchmark-sort=name --benchmark-columns=min,median,stddev,rounds

exact: $(BUILT)
	@test -n '$(DATA)' || { echo 'usage: make exact DATA=DIR' >&2; exit 2; }
	$(BIN)/python -m tests.exact '$(DATA)'

stream-proof: $(BUILT)
	$(BIN)/python -m tests.stream_proof

train-proof: $(BUILT)
	$(BIN)/python -m tests.train_proof

limits: $(BUILT)
	$(BIN)/python -m tests.limits

SANITIZED = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

# The interpreter is not built with the sanitizer, so its library comes first; what Python keeps to its end is no leak.
sanitize:
	FASTBPE_BUILD=asan $(MAKE) .venv/.built-asan
	$(SANITIZED) $(BIN)/python -m tests.sanitize
	$(SANITIZED) $(BIN)/python -m pytest -q -x -p no:cacheprovider tests/test_decode.py tests/test_counts.py \
	  tests/test_counting.py tests/test_train_merges.py tests/test_train_options.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f fastbpe/core/*.so fastbpe/core/*.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
