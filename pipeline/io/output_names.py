"""Names of the files of an image in an output folder.

``img.jpg`` gives ``img.json``, ``img.png``, ...; if another image of the run or the folder has this
name, it is ``img.jpg``, and then that with the parent folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from .inputs import InputImage, longer_names, shorten_path
from .records import record_path


def name_outputs(
    out_dir: Path, images: Sequence[InputImage], finished: Mapping[str, str]
) -> list[InputImage]:
    """Name the files of each image; ``finished`` (image name -> output name) keep theirs."""
    uses = Counter(next(output_names(image)) for image in images)
    chosen = dict(finished)
    taken = {*chosen.values()}
    for image in images:
        if image.name not in chosen:
            shared = uses[next(output_names(image))] > 1
            names = islice(output_names(image), int(shared), None)
            free = (n for n in names if n not in taken and not record_path(out_dir, n).is_file())
            chosen[image.name] = next(free)
            taken.add(chosen[image.name])
    return [replace(image, output=chosen[image.name]) for image in images]


def output_names(image: InputImage) -> Iterator[str]:
    """Yield the possible names, best first."""
    yield shorten_path(PurePosixPath(image.name).with_suffix('').as_posix())
    yield shorten_path(image.name)
    yield from map(shorten_path, longer_names(image))
