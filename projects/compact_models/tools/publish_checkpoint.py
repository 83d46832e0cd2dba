"""Turn a training checkpoint into an embedded one: weights only, float16, listed in the manifest.

python projects/compact_models/tools/publish_checkpoint.py weights.pth rtmdet-ins_compact
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

MAX_BYTES = 16 * 2**20


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else '')
    parser.add_argument('checkpoint', type=Path, help='file written by training')
    parser.add_argument('name', help='name in the manifest, and of the file in checkpoints/')
    kinds = ('detector', 'pose', 'segmenter')
    parser.add_argument('--kind', choices=kinds, help='default: as listed before')
    parser.add_argument('--about', help='a few words for lists (default: as listed before)')
    parser.add_argument('--licence', default='Apache-2.0')
    parser.add_argument('--source', default='trained by this project; see the model card')
    return parser.parse_args()


def main() -> None:
    """Convert, write and list one file."""
    args = parse_args()
    import dataclasses

    import torch

    from pipeline.io.atomic import compute_sha256
    from pipeline.weights.manifest import (
        FOLDER,
        MANIFEST,
        WeightsEntry,
        manifest_json,
        read_manifest,
    )
    from projects.compact_models.training.plain_weights_hook import plain

    entries = read_manifest()
    if args.name not in entries and not (args.kind and args.about):
        raise SystemExit(f'{args.name} is not in the manifest yet: give --kind and --about')
    content = torch.load(args.checkpoint, map_location='cpu', weights_only=True)
    key = 'model' if 'model' in content else 'state_dict'
    slim: dict[str, Any] = {key: {k: _half(v) for k, v in content[key].items()}}
    if key == 'state_dict':
        slim['meta'] = {'dataset_meta': plain(content['meta'].get('dataset_meta', {}))}
    target = FOLDER / f'{args.name}{args.checkpoint.suffix}'
    partial = target.with_suffix('.partial')
    torch.save(slim, partial)
    size = partial.stat().st_size
    if size > MAX_BYTES:
        partial.unlink()
        raise SystemExit(
            f'{args.name}: {size} bytes, more than the {MAX_BYTES} that may be embedded'
        )
    os.replace(partial, target)
    changed = {
        'file': target.name,
        'licence': args.licence,
        'source': args.source,
        'size': size,
        'sha256': compute_sha256(target),
        **{k: getattr(args, k) for k in ('kind', 'about') if getattr(args, k)},
    }
    if args.name in entries:
        entry = dataclasses.replace(entries[args.name], **changed)
    else:
        entry = WeightsEntry(args.name, embedded=True, **changed)
    entries[args.name] = entry
    MANIFEST.write_text(manifest_json(entries))
    sys.stdout.write(f'{target.name}: {size / 2**20:.2f} MiB, sha256 {entry.sha256}\n')


def _half(value: Any) -> Any:
    return value.half() if value.is_floating_point() else value


if __name__ == '__main__':
    main()
