r"""Pack images with people for training on a GPU: shrunk, and joined in few files.

Reads a COCO file and writes OUT/part_00.pt, part_01.pt, ... for `PackedCrops`. A person with an
empty mask counts as one whose mask is unknown.

Example:
    python projects/compact_models/tools/pack_images.py \
        data/compact_detector/train.json data/packed --images data/compact_detector
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='COCO file')
    parser.add_argument('out', type=Path, help='folder to write, without parts of an earlier run')
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument(
        '--size', type=int, default=448, help='longest side of an image in px (default: 448)'
    )
    parser.add_argument(
        '--quality', type=int, default=80, help='of the encoded images, 1 to 100 (default: 80)'
    )
    parser.add_argument(
        '--format',
        choices=('jpg', 'webp'),
        default='jpg',
        help='of the encoded images; webp takes a third less and 30 times as long (default: jpg)',
    )
    parser.add_argument(
        '--max-mib', type=float, default=30, help='largest file in MiB (default: 30)'
    )
    return parser


def pack(args: argparse.Namespace) -> None:
    """Writes the parts and prints a line for each.

    Raises:
        ValueError: the annotation file, an image or a setting cannot be used.
        OSError: an image is missing, or the parts cannot be written.
    """
    from pipeline.io.coco_checks import read_coco
    from projects.compact_models.packed.file import each_packed, parts_below

    coco = read_coco(args.source)
    images = each_packed(coco, args.images, args.size, args.quality, f'.{args.format}')
    for number, part in enumerate(parts_below(images, int(args.max_mib * 2**20))):
        path = args.out / f'part_{number:02}.pt'
        part.save(path)
        num_ignored = int(part.ignored.sum())
        has_mask = part.rle_ends.diff(prepend=part.rle_ends.new_zeros(1)) > 0
        num_masks = int((has_mask & ~part.ignored).sum())
        print(
            f'{path}: {len(part)} images, {len(part.ignored) - num_ignored} people, '
            f'{num_masks} of them with a mask, {num_ignored} ignored regions, '
            f'{path.stat().st_size / 2**20:.1f} MiB'
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and packs the images."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.source.is_file():
        parser.error(f'there is no annotation file {args.source}')
    if not args.images.is_dir():
        parser.error(f'the folder of the images, {args.images}, does not exist')
    if any(args.out.glob('part_*.pt')):
        # Parts that this run does not replace would be trained on as well.
        parser.error(f'{args.out} holds parts already; remove them or give another folder')
    try:
        pack(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
