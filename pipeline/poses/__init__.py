"""Poses of the pipeline."""
