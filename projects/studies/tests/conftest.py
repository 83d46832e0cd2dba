"""Fixtures that the tests of the package share with those of this project."""

from tests.conftest import samples

__all__ = ['samples']
