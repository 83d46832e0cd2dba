"""Io of the pipeline."""
