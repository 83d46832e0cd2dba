"""Records that earlier runs left in the output folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .atomic import compute_sha256, write_json
from .inputs import InputImage
from .output_names import output_names
from .progress import Reporter, count_of
from .records import (
    FORMAT,
    candidates_from_record,
    candidates_to_record,
    parse_record,
    read_record,
    record_path,
)
from .run_options import Pipeline, RunOptions
from .writers import remove_outputs


def find_records(out_dir: Path, images: Sequence[InputImage]) -> dict[str, str]:
    """Find the images with a record in the folder: image name -> name of its files."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for image in images:
        for output in islice(output_names(image), 4):
            path = record_path(out_dir, output)
            if output not in taken and path.is_file() and _is_record_of(image, path):
                found[image.name] = output
                taken.add(output)
                break
    return found


def _is_record_of(image: InputImage, path: Path) -> bool:
    record = parse_record(path)
    if record is None or 'format' not in record:
        return True  # damaged: no other image needs it
    if record['format'] != FORMAT:
        return bool(record.get('input') == image.name)  # earlier formats have no source
    if record.get('source') == os.path.abspath(image.path) or read_record(path) is None:
        return True
    try:  # a copy, or a folder that was moved
        return bool(record['made_with']['photo'] == compute_sha256(image.path))
    except OSError:
        return False


def rewrite_others(
    pipeline: Pipeline, images: Sequence[InputImage], options: RunOptions, reporter: Reporter
) -> None:
    """Apply the minimum score to the records of images that are not in this run."""
    info, folder = options.out_dir / 'run.json', options.out_dir / 'predictions'
    written_with = options.written_with(pipeline.min_score)
    own = {record_path(options.out_dir, image.key) for image in images}
    others = [p for p in folder.rglob('*.json') if p not in own and not p.name.startswith('.')]
    before = parse_record(info) if info.is_file() else None
    info.unlink(missing_ok=True)  # it describes an earlier run
    if not others:
        return
    reporter.message(
        f'{options.out_dir} also has {count_of(len(others), "image")} of earlier runs; the files '
        'for the whole run leave them out'
    )
    if before is not None and before.get('written_with') == written_with:
        return
    for path in others:
        record = read_record(path)
        if record and record.get('format') == FORMAT and record['written_with'] != written_with:
            output = path.relative_to(folder).as_posix().removesuffix('.json')
            rewrite_record(options.out_dir, output, record, pipeline.min_score, written_with)


def rewrite_record(
    out_dir: Path,
    output: str,
    record: Mapping[str, Any],
    min_score: float | None,
    written_with: Mapping[str, Any],
) -> dict[str, Any]:
    """Apply another minimum score to a record on disk, and remove the files made with the old one.

    In this order, a kill leaves no file that disagrees with the record.
    """
    remove_outputs(out_dir, output, of_candidates=False)
    changed = candidates_to_record(candidates_from_record(dict(record)), min_score)
    changed = {**record, **changed, 'written_with': dict(written_with)}
    write_json(record_path(out_dir, output), changed)
    return changed
