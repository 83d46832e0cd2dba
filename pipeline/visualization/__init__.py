"""Visualization of the pipeline."""
