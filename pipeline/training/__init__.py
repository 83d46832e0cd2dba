"""Training of the pipeline."""
