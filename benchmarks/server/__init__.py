"""Trials of a running server: bad bodies, load, and a long run. Used by tests and tools."""
