"""Evaluation of the pipeline."""
