"""Training data packed in a few files and wholly on the device, with batched augmentation there.

A small detector takes images faster than data loaders with NumPy transforms can give them. Here the
images are shrunk once (`file.py`), lie decoded on the device (`images.py`) and become batches of
augmented crops without any work of the CPU (`crops.py`).
"""
