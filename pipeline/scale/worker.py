"""Loading of the pipeline in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def load_worker(config: str, overrides: Mapping[str, Any]) -> Any:
    """Load a pipeline in the process of a worker; see `pipeline.api.load_pipeline`."""
    from ..api import load_pipeline
    from ..openmmlab import quiet_libraries

    quiet_libraries()
    return load_pipeline(config, cfg_options=overrides)
