"""Weights: manifest, checksums, safe loading and downloads."""
