"""Everything once, on drawn photos or one's own: the steps of `tools/demo.py` and their page."""
