"""Importing the stock `sam2` package without side effects on a host program's Hydra."""

from __future__ import annotations

import sys


def import_sam2() -> None:
    """Imports `sam2` and leaves Hydra as uninitialised as it was before.

    `sam2/__init__.py` initialises the process-wide `GlobalHydra` when nobody else has done so; a
    later `@hydra.main` or `hydra.initialize` of the host program then fails with "GlobalHydra is
    already initialized" (facebookresearch/sam2#179). This package instantiates the model configs
    itself and needs no global Hydra, so what the import has set is cleared again. A `GlobalHydra`
    that the host has initialised, and a `sam2` that the host has imported, are left alone.

    A host that wants `sam2.build_sam` (which does need the global state) after this call runs
    `hydra.initialize_config_module('sam2', version_base='1.2')` itself.

    Raises:
        ImportError: `sam2` or `hydra-core` is not installed.
    """
    if 'sam2' in sys.modules:
        return
    from hydra.core.global_hydra import GlobalHydra

    initialized_by_host = GlobalHydra.instance().is_initialized()
    import sam2  # noqa: F401

    if not initialized_by_host:
        GlobalHydra.instance().clear()
