"""Detectors of the pipeline."""
