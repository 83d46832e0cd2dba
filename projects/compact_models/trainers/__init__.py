"""Trainers of the embedded models: plain PyTorch loops at the rate of the processor."""
