"""Parts of a run that can be computed in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar('T')


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count``: every ``count``-th image, or shard of a job."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f'shard must be i/n with 1 <= i <= n, got {self.index}/{self.count}')

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard ``i/n``.

        Raises:
            ValueError: The text has another form.
        """
        parts = text.split('/')
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f'shard must be i/n, such as 1/4, got {text!r}')
        return cls(int(parts[0]), int(parts[1]))

    def folder(self, out_dir: Path) -> Path:
        """Output folder of the shard."""
        return out_dir / 'shards' / f'{self.index}-of-{self.count}'

    def select(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of this part."""
        return items[self.index - 1 :: self.count]
