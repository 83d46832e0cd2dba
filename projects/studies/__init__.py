"""Studies: evaluate many values of a setting in one run over annotated images."""
