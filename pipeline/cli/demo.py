"""Photos to try the pipeline on that need no download."""

from __future__ import annotations

import importlib.resources
import logging
from io import BytesIO
from pathlib import Path

import PIL.Image

from ..io.atomic import write_bytes

logger = logging.getLogger(__name__)

# Package, photo in it, what it shows; both photos are in the public domain (NASA).
BUNDLED = (
    ('matplotlib', 'mpl-data/sample_data/grace_hopper.jpg'),
    ('skimage', 'data/astronaut.png'),
)
SYNTHETIC = 'synthetic_crowd.png'


def demo_inputs(folder: Path) -> list[str]:
    """Paths of the demo photos; the drawn crowd is written into ``folder``.

    What is not installed is left out with a warning that says how to get it.
    """
    photos = [_bundled(package, photo) for package, photo in BUNDLED]
    return [str(path) for path in [*photos, _synthetic(folder / SYNTHETIC)] if path is not None]


def _bundled(package: str, photo: str) -> Path | None:
    try:
        path = Path(str(importlib.resources.files(package).joinpath(photo)))
    except ModuleNotFoundError:
        logger.warning('demo without %s: install the package %s', Path(photo).name, package)
        return None
    if not path.is_file():
        logger.warning('demo without %s: the package %s does not bring it', path.name, package)
        return None
    return path


def _synthetic(path: Path) -> Path | None:
    try:
        from ..synthetic.scene import make_demo_scene
    except ModuleNotFoundError as error:
        logger.warning('demo without the drawn crowd: %s', error)
        return None
    buffer = BytesIO()
    PIL.Image.fromarray(make_demo_scene().image).save(buffer, 'PNG')
    write_bytes(path, buffer.getvalue())
    return path
