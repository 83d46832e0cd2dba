"""The manifest of weights, ``checkpoints/manifest.json``.

This module imports the standard library only, so tools that list or download files start fast.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ..resources import INSTALLED, RESTORE, ROOT
from ..values import in_line, shorten

FOLDER = ROOT / 'checkpoints'
MANIFEST = FOLDER / 'manifest.json'
KINDS = ('detector', 'pose', 'segmenter')


class CheckpointError(RuntimeError):
    """Weights are missing, differ from the manifest or cannot be read."""


class ManifestError(CheckpointError):
    """The manifest is missing or invalid."""


@dataclass(frozen=True)
class WeightsEntry:
    """One file of weights.

    Raises:
        ManifestError: A field is invalid.
    """

    name: str  # name in configs and commands
    file: str  # file name in the folder of downloads (embedded files: in ``checkpoints/``)
    kind: str  # stage: detector, pose or segmenter
    about: str  # short description
    licence: str  # licence of the weights
    source: str  # publisher
    urls: tuple[str, ...] = ()  # URLs of the file in the order of the attempts; empty if embedded
    embedded: bool = False  # the file is part of the repository
    size: int | None = None  # bytes; None if not published
    sha256: str | None = None  # checksum, hexadecimal; None if not published
    sha256_prefix: str | None = None  # first digits of the checksum, from file names of OpenMMLab
    # Prefixes of keys that may be missing, unexpected or of another shape.
    ignorable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ManifestError(f'manifest entry {shorten(self.name)}: {"; ".join(problems)}')

    def _problems(self) -> list[str]:
        texts = (self.file, self.kind, self.about, self.licence, self.source)
        if not all(isinstance(text, str) and text for text in texts):
            return ['file, kind, about, licence and source must be non-empty texts']
        if PurePosixPath(self.file).name != self.file or self.file.startswith('.'):
            return [f'file {shorten(self.file)} must be a plain file name']
        if self.kind not in KINDS:
            return [f'kind {shorten(self.kind)} must be one of {", ".join(KINDS)}']
        return [*self._address_problems(), *self._checksum_problems()]

    def _address_problems(self) -> list[str]:
        for name in ('urls', 'ignorable'):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(isinstance(v, str) and v for v in values):
                return [f'{name} must be a list of texts, got {shorten(values)}']
        if self.embedded == bool(self.urls):
            return ['an entry is either embedded or has urls']
        return [
            f'url {in_line(url)!r} must start with https:// and name a file'
            for url in self.urls
            if not _names_file(url)
        ]

    def _checksum_problems(self) -> list[str]:
        problems = []
        if self.size is not None and (type(self.size) is not int or self.size <= 0):
            problems.append(f'size must be a number of bytes or null, got {shorten(self.size)}')
        for name, digits in (('sha256', '{64}'), ('sha256_prefix', '{8,63}')):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(f'[0-9a-f]{digits}', str(value)):
                problems.append(
                    f'{name} must be {digits} lower-case hex digits, got {shorten(value)}'
                )
        if self.embedded and not (self.size and self.sha256):
            problems.append('an embedded file needs its size and sha256')
        return problems


def parse_manifest(text: str, source: str) -> dict[str, WeightsEntry]:
    """Parse a manifest to entries by name.

    Args:
        text: JSON, ``{"files": {name: {field: value}}}``.
        source: Name of the manifest in messages.

    Raises:
        ManifestError: The form is wrong, a field is unknown or missing, or two entries have the
            same file.
    """
    try:
        content = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f'{source} is not valid JSON: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('files'), dict):
        raise ManifestError(f'{source} must be {{"files": {{name: entry}}}}')
    entries = {name: _entry(name, values) for name, values in content['files'].items()}
    owners: dict[str, str] = {}
    for entry in entries.values():
        # Some file systems ignore case.
        owner = owners.setdefault(entry.file.lower(), entry.name)
        if owner != entry.name:
            raise ManifestError(
                f'{source}: {shorten(owner)} and {shorten(entry.name)} name the same file '
                f'{shorten(entry.file)}'
            )
    return entries


def read_manifest(path: Path | None = None) -> dict[str, WeightsEntry]:
    """Read the manifest of the repository to entries by name.

    Raises:
        ManifestError: The file is missing or invalid.
    """
    path = path or MANIFEST
    try:
        text = path.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f'{path} cannot be read ({error}); restore it with: {RESTORE}'
        ) from error
    return parse_manifest(text, str(path))


def download_folder() -> Path:
    """Return the folder of released weights: `BMP_CHECKPOINTS`, or a default.

    A checkout has ``checkpoints/downloads``. An installed package has
    ``~/.cache/bbox-mask-pose/checkpoints``, because an upgrade replaces its own folders.
    """
    if folder := os.environ.get('BMP_CHECKPOINTS'):
        return Path(folder)
    if not INSTALLED:
        return FOLDER / 'downloads'
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache, 'bbox-mask-pose', 'checkpoints')


def locate_weights(entry: WeightsEntry, folder: Path | None = None) -> Path:
    """Return the path of the file of an entry.

    Args:
        entry: Entry of the manifest.
        folder: Folder of downloads; default: `download_folder`.
    """
    return (FOLDER if entry.embedded else folder or download_folder()) / entry.file


def manifest_json(entries: Mapping[str, WeightsEntry]) -> str:
    """Serialize entries as a manifest."""
    files = {}
    for name, entry in entries.items():
        values = {f.name: getattr(entry, f.name) for f in fields(WeightsEntry) if f.name != 'name'}
        # Empty values are left out, except an unknown size or checksum.
        files[name] = {k: v for k, v in values.items() if v or k in ('size', 'sha256')}
    return json.dumps({'files': files}, indent=2) + '\n'


def _names_file(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == 'https' and bool(parts.path.rsplit('/', 1)[-1])


def _entry(name: str, values: Any) -> WeightsEntry:
    if not isinstance(values, dict):
        raise ManifestError(
            f'manifest entry {shorten(name)} must be a mapping, got {shorten(values)}'
        )
    known = {f.name for f in fields(WeightsEntry)} - {'name'}
    required = ('file', 'kind', 'about', 'licence', 'source')
    unknown, absent = sorted(set(values) - known), [k for k in required if k not in values]
    if unknown:
        raise ManifestError(
            f'manifest entry {shorten(name)}: unknown {in_line(", ".join(unknown))}; '
            f'known: {", ".join(sorted(known))}'
        )
    if absent:
        raise ManifestError(f'manifest entry {shorten(name)}: {", ".join(absent)} missing')
    if not isinstance(values.get('embedded', False), bool):
        raise ManifestError(
            f'manifest entry {shorten(name)}: embedded must be true or false, '
            f'got {shorten(values["embedded"])}'
        )
    fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return WeightsEntry(name=name, **fixed)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f'duplicate {in_line(", ".join(twice))}')
    return content
