"""The scans of a JPEG file, and whether the data of one of them ends early.

libjpeg fills what is missing before a marker with grey and gives a warning that Pillow does not
pass on. But a scan that has all its data ignores further bytes, and one that lacks some decodes
them. So a picture that changes with bytes added to every scan lacks data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')  # no stuffed 0xFF, fill byte or restart
_RESTART = re.compile(rb'\xff[\xd0-\xd7]')
_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_BARE = (0x01, 0xD8, _EOI)  # markers without a length
MAX_SEGMENTS = 100_000
_NOISE = bytes(37 * i % 251 for i in range(1, 65))


@dataclass(frozen=True)
class JpegScans:
    """The scans of the first image of a file."""

    places: tuple[tuple[int, int], ...] = ()  # first byte of the data, byte after the last one
    complete: bool = True  # every coefficient is sent, with all its bits

    def add_noise(self, data: bytes) -> bytes:
        """Add bytes to the end of every scan, also as one further restart interval."""
        parts, done = [], 0
        for start, stop in self.places:
            restarts = sum(1 for _ in _RESTART.finditer(data, start, stop))
            parts += [data[done:stop], _NOISE, bytes([0xFF, 0xD0 + restarts % 8]), _NOISE]
            done = stop
        return b''.join([*parts, data[done:]])


def find_scans(data: bytes) -> JpegScans:
    """Find the scans of a JPEG file; what follows its first image is ignored.

    Raises:
        ValueError: It has more than `MAX_SEGMENTS` segments.
    """
    segments = list(islice(_segments(data), MAX_SEGMENTS + 1))
    if len(segments) > MAX_SEGMENTS:
        raise ValueError(f'it has more than {MAX_SEGMENTS:,} segments')
    places = []
    missing: dict[tuple[int, int], int] = {}  # component, coefficient -> bits that are not sent
    progressive = False
    ends = [place for _, place, _ in segments[1:]] + [len(data)]
    for (code, place, body), end in zip(segments, ends, strict=False):
        if code in _FRAMES:
            progressive = code in _PROGRESSIVE
            missing = {(c, k): 8 for c in body[6::3] for k in range(64)}
        elif code == _SOS and len(body) >= 4:
            places.append((place + 4 + len(body), end))
            first, last, bits = body[-3:] if progressive else (0, 63, 0)
            sent = body[1:-3:2]
            missing |= {(c, k): bits & 15 for c in sent for k in range(first, last + 1)}
    return JpegScans(tuple(places), not any(missing.values()))


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield code, place and body of every marker, up to the end of the first image."""
    place = 2
    while match := _MARKER.search(data, place):
        code, place = match[0][1], match.end()
        length = 0 if code in _BARE else int.from_bytes(data[place : place + 2], 'big')
        yield code, match.start(), data[place + 2 : place + length]
        if code == _EOI:
            return
        place += length
