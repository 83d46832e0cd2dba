"""The loop in the order of work of the public reference, measured against ours."""
