"""Optimizer and hooks of all three trainings."""
