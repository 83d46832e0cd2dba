"""Weights: the manifest, files with their checksums, safe loading, downloads."""
