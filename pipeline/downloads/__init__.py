"""Downloading weights of the manifest: resumed, checked, from several mirrors."""
