"""The tools of the studies."""
