# make demo: train a real model by reinforcement learning and open the report. make test: the tests. Both install first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
DEMO_TASK := arithmetic
DEMO_MEASURE := --task $(DEMO_TASK) --problems 64 --samples 16 --max-tokens 12

.PHONY: install demo test test-slow correctness benchmarks readme clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: install
	$(BIN)/posttrain train grpo --model smollm2 --task $(DEMO_TASK) --steps 30 --max-tokens 12 --learning-rate 2e-5 --seed 3 --out $(RUN)
	$(BIN)/posttrain compare smollm2 $(RUN) $(DEMO_MEASURE) --untouched-task facts --out $(RUN)
	@echo "open $(RUN)/report.html"

test: install
	$(BIN)/python -m pytest -n 2

test-slow: install
	$(BIN)/python -m pytest -m slow

correctness: install
	$(BIN)/python -m tests.exact.table > docs/CORRECTNESS.md

benchmarks: install
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.grpo_step
	$(BIN)/python -m benchmarks.sft
	$(BIN)/python -m benchmarks.dpo
	$(BIN)/python -m benchmarks.vocabulary

readme: demo
	$(BIN)/python docs/update_readme.py $(RUN)

clean:
	rm -rf $(VENV)
