"""The page of `make demo`, which `tools/demo.py` runs."""
