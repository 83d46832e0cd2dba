"""Fixtures that the tests of the package share with those of this project."""

from tests.conftest import mmpose_scope

__all__ = ['mmpose_scope']
