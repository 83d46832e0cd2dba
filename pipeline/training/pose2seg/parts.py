"""Registration of all classes of this package that a config may name."""

from . import dataset, export, metric, model, optimizer, transforms

__all__ = ['dataset', 'export', 'metric', 'model', 'optimizer', 'transforms']
