"""Segmenters of the pipeline."""
