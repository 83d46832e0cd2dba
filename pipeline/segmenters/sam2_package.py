"""Import of the stock `sam2` package without side effects on Hydra."""

from __future__ import annotations

import sys


def import_sam2() -> None:
    """Import `sam2` and restore the state of Hydra.

    `sam2/__init__.py` initializes the process-wide `GlobalHydra`. A later `@hydra.main` or
    `hydra.initialize` of your program then fails with "GlobalHydra is already initialized"
    (facebookresearch/sam2#179). This package does not need the global state and clears it again,
    unless your program has already initialized Hydra or imported `sam2`.

    To use `sam2.build_sam` after this call, run
    `hydra.initialize_config_module('sam2', version_base='1.2')`.

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
