"""Hypothesis strategies of damaged files: each is a valid file with a few changes."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, 1e9, 1e300, -1e300, float('nan'), float('inf'),
    10**18, 2**63, 10**400, '', '0', '1', 'a\0b', '\ud800', '~nouser', '../../x', 'ä',
    "b'54'", 'o', 'PPP0', [], {}, [1], [[]], {'a': 1}, [None], 'person', [0, 0, 1e9, 1e9, 1, 1],
    'x' * 5000,
)  # fmt: skip
ANY_VALUE = st.sampled_from(VALUES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
# Parts of pickles that call something, if a reader lets them.
CODE = (
    b'cbuiltins\nexec\n', b'cos\nsystem\n', b'cnumpy\nndarray\n', b'ctorch\nload\n', b'c__main__\n',
    b"cos\nsystem\n(S'touch canary'\ntR", b"cpathlib\nPath\n(S'x'\ntR",
)  # fmt: skip
WORDS = (
    'None', 'nan', '1e400', '9' * 5000, '-1', '0', '1.5', '[]', '{}', '[[', '((', '"', "'", '\\',
    '\0', 'ä', '=', ':', ',', '.', '-', '\n', '\t', '&a', '*a', '<<', '!!python/object:os.system',
    '_target_', 'pathlib.Path.touch', 'sam2.build_sam.torch.load', '${a}', '${oc.env:HOME}',
    '_base_', '_delete_', 'custom_imports', 'dict', 'x' * 300, '[' * 3000,
)  # fmt: skip


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Change, insert, remove, repeat, reverse or cut bytes."""
    changed = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.sampled_from((1, 1, 2, 4, 16)))):
        at, size = draw(st.integers(0, len(changed))), draw(st.sampled_from((1, 2, 4, 8, 64)))
        part = bytes(changed[at : at + size])
        kind = draw(st.sampled_from(('noise', 'noise', 'code', 'cut', 'remove', 'repeat', 'turn')))
        if kind == 'noise':
            part = draw(st.binary(min_size=1, max_size=size))
        elif kind == 'code':
            part = draw(st.sampled_from(CODE))
        elif kind == 'cut':
            size = len(changed) if draw(st.integers(0, 9)) == 0 else size
        changed[at : at + size] = {'remove': b'', 'repeat': part * 2, 'turn': part[::-1]}.get(
            kind, part
        )
    return bytes(changed)


@st.composite
def changed_archives(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Change files, or one member of an archive, mostly the pickle; its checksums are right."""
    data = draw(st.sampled_from(seeds))
    if not data.startswith(b'PK') or draw(st.integers(0, 4)) == 0:
        return draw(changed_bytes([data]))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, 'w') as new:
        names = old.namelist()
        chosen = draw(st.sampled_from([n for n in names if n.endswith('data.pkl')] * 9 + names))
        for name in names:
            content = old.read(name)
            new.writestr(name, draw(changed_bytes([content])) if name == chosen else content)
    return out.getvalue()


@st.composite
def changed_images(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Change files, or one chunk of a PNG file whose checksum then is right."""
    data = draw(st.sampled_from(seeds))
    if not data.startswith(b'\x89PNG') or draw(st.booleans()):
        return draw(changed_bytes([data]))
    chunks, at = [], 8
    while at < len(data):
        size = struct.unpack_from('>I', data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    number = draw(st.integers(0, len(chunks) - 1))
    kind, body = chunks[number]
    packed = kind == b'IDAT' and draw(st.booleans())
    body = draw(changed_bytes([zlib.decompress(body) if packed else body]))
    chunks[number] = kind, zlib.compress(body) if packed else body
    return data[:8] + b''.join(
        struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        for kind, body in chunks
    )


@st.composite
def changed_json(draw: st.DrawFn, document: Any) -> bytes:
    """Change one to three spots of a document, or also its bytes."""
    content = copy.deepcopy(document)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        spots = list(_spots(content)) or [([content], 0)]
        node, key = spots[draw(st.integers(0, len(spots) - 1))]
        kind = draw(st.sampled_from(('remove', 'repeat', 'move', 'edit', 'value', 'value')))
        if kind == 'remove':
            del node[key]
        elif kind == 'repeat' and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif kind == 'move':
            other, at = spots[draw(st.integers(0, len(spots) - 1))]
            node[key] = copy.deepcopy(other[at])
        elif kind == 'edit' and isinstance(node[key], str):
            end = draw(st.integers(0, len(node[key])))
            node[key] = node[key][:end] + draw(st.sampled_from('o0PY\0ä'))
        else:
            node[key] = copy.deepcopy(draw(ANY_VALUE))
    data = json.dumps(content).encode()
    kind = draw(st.integers(0, 19))
    end = draw(st.integers(0, len(data))) if kind < 2 else 0
    if kind == 1:
        noise = draw(st.sampled_from((b'\xff', b'[' * 100_000, b'9' * 5000, b',')))
        return data[:end] + noise + data[end:]
    return data if kind else data[:end]


def _spots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key in it."""
    keys = node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    for key in list(keys):
        yield node, key
        yield from _spots(node[key])


@st.composite
def changed_text(draw: st.DrawFn, seeds: Sequence[str]) -> bytes:
    """Replace, remove, repeat or insert words and signs, or also bytes."""
    words = re.findall(r'\w+|\s+|.', draw(st.sampled_from(seeds)))
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        at, size = draw(st.integers(0, len(words))), draw(st.sampled_from((0, 1, 1, 1, 5)))
        new = draw(
            st.sampled_from(('', *WORDS)) | st.sampled_from(words or ['']) | st.text(max_size=5)
        )
        words[at : at + size] = [new]
    data = ''.join(words).encode('utf-8', 'surrogatepass')
    return draw(changed_bytes([data])) if draw(st.integers(0, 19)) == 0 else data
