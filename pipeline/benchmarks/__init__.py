"""Measurements of time and memory; ``tools/benchmark.py`` is their command line."""
