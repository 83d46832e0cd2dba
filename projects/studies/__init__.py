"""Studies of settings: a pipeline over annotated photos, once for many settings."""
