"""Datasets of the pipeline."""
