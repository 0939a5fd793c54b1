# `make help` lists the targets.
VENV ?= .venv
PYTHON ?= python3
# Empty: as the environment was installed before, pip for a new one.
DETECTRON2 ?=
RUN := $(VENV)/bin/python
RUFF := $(VENV)/bin/ruff

.PHONY: help install test test-slow lint bench serve demo clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install:  ## environment, torch, Detectron2, this project [VENV=.venv PYTHON=python3 DETECTRON2=pip|git|skip|FOLDER]
	@bash tools/install.sh "$(VENV)" "$(PYTHON)" "$(DETECTRON2)"

test: install  ## unit, then end-to-end tests, with coverage
	$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

test-slow: install  ## the long tests only
	$(RUN) -m pytest -m slow

lint: install  ## ruff, ruff format, mypy
	$(RUFF) check .
	$(RUFF) format --check .
	$(RUN) -m mypy

bench: install  ## compare the backbones: benchmark_out/benchmark.md
	$(RUN) tools/benchmark.py --output benchmark_out

serve: install  ## the server with the shipped checkpoint, on port 8000
	$(RUN) -m serve

demo: install  ## everything once on drawn photos: demo_out/index.html [IMAGES=DIR MASKS=DIR]
	$(RUN) tools/demo.py --output demo_out $(if $(IMAGES),--images "$(IMAGES)" --masks "$(MASKS)")

clean:  ## what the other targets left, the environment apart
	rm -rf build dist demo_out benchmark_out output *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage*
