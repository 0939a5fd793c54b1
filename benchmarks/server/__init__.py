"""Trials of a running server: bad bodies, a long run, and clients that mean harm."""
