"""Lookup of weights by name, with a check of the sha256.

``checkpoints/manifest.json`` lists all known files. Embedded files are in the same folder, released
ones in ``checkpoints/downloads/`` or the folder of ``BMP_CHECKPOINTS``.

If the publisher states no sha256, the first download is trusted: its sha256 is recorded in
``name.pth.sha256`` (format of the command sha256sum) and checked from then on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..io.atomic import compute_sha256
from .loading import check_torch_file
from .manifest import CheckpointError, WeightsEntry, locate_weights, read_manifest


class AbsentWeightsError(CheckpointError):
    """A file of the manifest does not exist."""

    def __init__(self, entry: WeightsEntry) -> None:
        from .messages import describe_absent, fetch_command

        super().__init__(describe_absent([entry], fetch_command(entry.name)))
        self.entry = entry


@dataclass(frozen=True)
class Weights:
    """A checked file of weights."""

    name: str  # name in the manifest, else the file name
    path: Path  # path of the file
    sha256: str  # checksum, hexadecimal
    # Prefixes of keys that may differ from the model; see `WeightsEntry`.
    ignorable: tuple[str, ...] = ()


def find_weights(name: str | Path, config_path: Path | None = None) -> Weights:
    """Find and check a file by manifest name or path.

    Args:
        name: Manifest name, or a path: absolute, relative to the folder of the config, or relative
            to the working directory, in this order.
        config_path: Path of the config.

    Raises:
        CheckpointError: The name is unknown, the file is missing or differs from the manifest.
    """
    known = read_manifest()
    entry = known.get(str(name))
    if entry is None:
        folders = [Path(), *([config_path.resolve().parent] if config_path else [])]
        for folder in reversed(folders):
            if (folder / name).is_file():
                return Weights(Path(name).name, folder / name, compute_sha256(folder / name))
        names = ', '.join(sorted(known))
        raise CheckpointError(f'no weights {str(name)!r}: neither a file nor one of: {names}')
    path = locate_weights(entry)
    if not path.is_file():
        raise AbsentWeightsError(entry)
    problem, digest = verify_file(entry, path)
    if problem:
        from .messages import replace_command

        raise CheckpointError(
            f'{path} is not the file of the manifest entry {entry.name!r}: {problem}; '
            f'replace it with: {replace_command(entry)}'
        )
    return Weights(entry.name, path, digest, entry.ignorable)


def find_all_weights(
    names: Sequence[str | None],
    config_path: Path | None = None,
    command: Callable[[list[str]], str] | None = None,
) -> list[Weights | None]:
    """Find several files with `find_weights`; one error lists all problems.

    Args:
        names: See `find_weights`; None stays None.
        config_path: Path of the config.
        command: Builds the command that downloads missing files; default: `fetch_command`.

    Raises:
        CheckpointError: Files are missing or wrong.
    """
    weights: list[Weights | None] = []
    absent: list[WeightsEntry] = []
    problems: list[str] = []
    for name in names:
        try:
            weights.append(find_weights(name, config_path) if name else None)
        except AbsentWeightsError as error:
            absent.append(error.entry)
        except CheckpointError as error:
            problems.append(str(error))
    if absent:
        from .messages import describe_absent, fetch_command

        absent_names = [entry.name for entry in absent]
        download = command(absent_names) if command else fetch_command(*absent_names)
        problems.append(describe_absent(absent, download))
    if problems:
        raise CheckpointError('\n'.join(problems))
    return weights


def check_header(entry: WeightsEntry, path: Path) -> str:
    """Check the size and the first bytes of a file; returns the problem, or ''."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f'it has {size} bytes, expected {entry.size}'
    return check_torch_file(path)


def verify_file(entry: WeightsEntry, path: Path) -> tuple[str, str]:
    """Compare a file with an entry: size, sha256 or its prefix, and the recorded sha256.

    Returns:
        The problem, or ''; and the sha256, or '' if it was not computed.
    """
    problem = check_header(entry, path)
    if problem:
        return problem, ''
    digest = compute_sha256(path)
    if entry.sha256 is not None and digest != entry.sha256:
        return f'sha256 {digest[:12]}..., expected {entry.sha256[:12]}...', digest
    if entry.sha256_prefix is not None and not digest.startswith(entry.sha256_prefix):
        return f'sha256 {digest[:12]}..., expected {entry.sha256_prefix}...', digest
    recorded = read_checksum(path)
    if entry.sha256 is None and recorded not in (None, digest):
        return (
            f'sha256 {digest[:12]}..., but {str(recorded)[:12]}... after the download '
            f'({checksum_path(path).name})'
        ), digest
    return '', digest


def checksum_path(path: Path) -> Path:
    """Path of the recorded sha256 of a file."""
    return path.with_name(f'{path.name}.sha256')


def read_checksum(path: Path) -> str | None:
    """Read the recorded sha256 of a file; None without a record.

    Raises:
        CheckpointError: The record is damaged.
    """
    record = checksum_path(path)
    if not record.is_file():
        return None
    match = re.match(r'([0-9a-f]{64})\b', record.read_text('utf-8', 'replace'))
    if not match:
        raise CheckpointError(f'{record} has no sha256; delete it if you trust {path.name}')
    return match.group(1)
