"""Fixtures shared with the tests of the package."""

from tests.conftest import (  # noqa: F401
    mmdet_scope,
    mmengine_scope,
    mmpose_scope,
    one_thread,
    pytest_collection_modifyitems,
)
