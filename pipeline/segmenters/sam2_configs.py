"""Configs inside the stock `sam2` package."""

from __future__ import annotations

import importlib.resources

from pipeline.segmenters.sam2_package import import_sam2

_CONFIG_FOLDERS = ('configs/sam2.1', 'configs/sam2')


def packaged_config_names() -> list[str]:
    """List the image model configs of the `sam2` package, without folder and suffix."""
    return sorted(name for folder in _CONFIG_FOLDERS for name in _yaml_names(folder))


def read_packaged_config(name: str) -> str:
    """Read a config of the `sam2` package by its path in the package or its short name."""
    import_sam2()
    root = importlib.resources.files('sam2')
    for folder in _CONFIG_FOLDERS:
        for short in _yaml_names(folder):
            if name in (short, f'{short}.yaml', f'{folder}/{short}.yaml'):
                return (root / folder / f'{short}.yaml').read_text()
    raise FileNotFoundError(
        f'no SAM 2 config {name!r}: neither a file nor one of {", ".join(packaged_config_names())}'
    )


def _yaml_names(folder: str) -> list[str]:
    import_sam2()
    entries = (importlib.resources.files('sam2') / folder).iterdir()
    return [entry.name[: -len('.yaml')] for entry in entries if entry.name.endswith('.yaml')]
