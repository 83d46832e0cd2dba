"""The part of a file that has arrived, and a note beside it about what it is a part of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Origin:
    """What a server said about the file that it sends.

    Attributes:
        url: The address that was asked, before any redirect.
        etag: Version of the file; '' if the server has none.
        modified: Date of the file, as the server writes it; '' if not said.
        size: Bytes of the whole file; None if not said.
        sha256: Checksum of the whole file; '' if not said.
    """

    url: str
    etag: str = ''
    modified: str = ''
    size: int | None = None
    sha256: str = ''

    def same_file(self, other: Origin) -> bool:
        """Whether something that both know says so, and nothing speaks against it."""
        pairs = (
            (self.etag, other.etag),
            (self.modified, other.modified),
            (self.size, other.size),
            (self.sha256, other.sha256),
        )
        told = [a == b for a, b in pairs if a and b]
        return self.url == other.url and bool(told) and all(told)

    @property
    def validator(self) -> str:
        """What ``If-Range`` may carry: a strong ETag, else the date; '' if there is neither."""
        return self.etag if self.etag and not self.etag.startswith('W/') else self.modified


@dataclass(frozen=True)
class PartFile:
    """``NAME.part`` with its note ``NAME.part.json``.

    Attributes:
        target: The file that it becomes.
    """

    target: Path

    @property
    def path(self) -> Path:
        """The bytes that have arrived."""
        return self.target.with_name(f'{self.target.name}.part')

    @property
    def note(self) -> Path:
        """What they are a part of."""
        return self.target.with_name(f'{self.target.name}.part.json')

    @property
    def size(self) -> int:
        """Number of bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """Where the bytes come from; None if that is not known, so that they are worth nothing."""
        try:
            return Origin(**json.loads(self.note.read_text('utf-8')))
        except (OSError, ValueError, TypeError):
            return None

    def restart(self, origin: Origin) -> None:
        """Forget the bytes and note whose bytes follow."""
        # In this order a kill in between leaves bytes without a note, never with a wrong one.
        self.note.unlink(missing_ok=True)
        self.path.write_bytes(b'')
        self.note.write_text(json.dumps(asdict(origin)), 'utf-8')

    def discard(self) -> None:
        """Remove both files."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
