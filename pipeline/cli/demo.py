"""Demo images that need no download."""

from __future__ import annotations

import importlib.resources
import logging
from io import BytesIO
from pathlib import Path

import PIL.Image

from ..io.atomic import write_bytes

logger = logging.getLogger(__name__)

# Package and image; both images are in the public domain (NASA).
BUNDLED = (
    ('matplotlib', 'mpl-data/sample_data/grace_hopper.jpg'),
    ('skimage', 'data/astronaut.png'),
)
SYNTHETIC = 'synthetic_crowd.png'


def demo_inputs(folder: Path) -> list[str]:
    """Return the paths of the demo images; the synthetic crowd is written into ``folder``.

    Images of missing packages are left out with a warning.
    """
    images = [_bundled(package, image) for package, image in BUNDLED]
    return [str(path) for path in [*images, _synthetic(folder / SYNTHETIC)] if path is not None]


def _bundled(package: str, image: str) -> Path | None:
    try:
        path = Path(str(importlib.resources.files(package).joinpath(image)))
    except ModuleNotFoundError:
        logger.warning('demo without %s: install the package %s', Path(image).name, package)
        return None
    if not path.is_file():
        logger.warning('demo without %s: it is not in the package %s', path.name, package)
        return None
    return path


def _synthetic(path: Path) -> Path | None:
    try:
        from ..synthetic.scene import make_demo_scene
    except ModuleNotFoundError as error:
        logger.warning('demo without the synthetic crowd: %s', error)
        return None
    buffer = BytesIO()
    PIL.Image.fromarray(make_demo_scene().image).save(buffer, 'PNG')
    write_bytes(path, buffer.getvalue())
    return path
