"""How models run: options, half precision, batches that fit in memory, timing."""
