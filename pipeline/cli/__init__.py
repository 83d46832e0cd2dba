"""Commands, one module each; the scripts in ``tools/`` call them."""
