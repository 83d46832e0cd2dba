"""Pose estimators of the pipeline."""
