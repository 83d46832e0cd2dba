"""Run a pipeline over a data set and write one results file; tools/score.py scores it.

Protocols (stated in every output):
    loop                detector boxes, the whole loop
    gt_boxes            ground-truth boxes -> pose; --gt-masks: inside ground-truth masks
    gt_keypoints        ground-truth keypoints (v = 2) -> mask
    detected_keypoints  boxes (the detector's, or --gt-boxes) -> pose -> mask, one pass
    oracle              ground truth replayed, no model; shows that data and scorer fit

Examples:
    python tools/test.py bmp_compact --data my_annotations.json --images photos/ --score
    python tools/test.py bmp_v2 --data ochuman_val --protocol gt_keypoints --device cuda
    python tools/test.py bmp_v2 --data coco_val2017 --shard 1/4     # and 2/4, 3/4, 4/4 beside it;
    python tools/test.py bmp_v2 --data coco_val2017                 # then this puts them together

A stopped run goes on where it was. Results, formats: docs/user_guide/evaluation.md; data sets:
docs/user_guide/datasets.md.

Exit codes: 0 all well, 1 a photo failed (OUT/failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.progress import make_reporter
from ..io.results import PROTOCOLS
from .options import (
    add_data_root,
    add_loop_options,
    add_runtime_options,
    command_line,
    config_options,
    exit_codes,
    make_parser,
    positive,
)
from .score import score_results, show
from .summary import print_summary

if TYPE_CHECKING:
    from .dataset_run import DatasetRequest

PROG = 'test.py'


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='name in configs/ or file')
    add('--data', required=True, metavar='NAME|FILE', help='data set, or COCO annotation file')
    add('--images', type=Path, metavar='DIR', help='folder of the images, if it is elsewhere')
    add_data_root(parser)
    add('--protocol', choices=tuple(PROTOCOLS), default='loop',
        help='see above (default: %(default)s)')  # fmt: skip
    add('--gt-boxes', action='store_true', help='detected_keypoints: boxes of the ground truth')
    add('--gt-masks', action='store_true', help='poses inside the masks of the ground truth')
    add('--out-dir', type=Path, metavar='OUT', help='default: outputs/test/CONFIG/DATA/PROTOCOL')
    add('--shard', metavar='I/N', help='the I-th of N parts, into OUT/shards/I-of-N')
    add('--limit', type=positive, metavar='N', help='the first N images only')
    add('--resume', action=argparse.BooleanOptionalAction, default=True,
        help='skip images that are done (default: yes)')  # fmt: skip
    add('--score', action='store_true', help='score at the end: OUT/scores.json and scores.md too')
    add_loop_options(parser)
    add_runtime_options(parser)
    return parser


def request_of(args: argparse.Namespace, command: tuple[str, ...]) -> DatasetRequest:
    """What the arguments ask for.

    Raises:
        ValueError: options that exclude each other.
    """
    from .dataset_run import DatasetRequest, Shard
    from .protocols import Protocol

    if args.shard and args.score:
        raise ValueError('--score goes with the run that puts the shards together')
    if args.protocol != 'loop' and {'max_rounds', 'refine'} & set(vars(args)):
        raise ValueError(f'--max-rounds and --refine mean nothing in --protocol {args.protocol}')
    out_dir = Path('outputs/test', Path(args.config).stem, Path(args.data).stem, args.protocol)
    return DatasetRequest(
        config=args.config,
        data=args.data,
        out_dir=args.out_dir or out_dir,
        protocol=Protocol(args.protocol, gt_boxes=args.gt_boxes, gt_masks=args.gt_masks),
        cfg_options=config_options(args),
        data_root=args.data_root,
        images=args.images,
        shard=Shard.parse(args.shard) if args.shard else None,
        limit=args.limit,
        resume=args.resume,
        command=command,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline over the data set and print the results; returns the exit code."""
    args = build_parser().parse_args(argv)
    with exit_codes(PROG):
        from .dataset_run import run_dataset
        from .protocols import load_protocol

        request = request_of(args, command_line(PROG, argv))
        report = run_dataset(request, load=load_protocol, reporter=make_reporter())
        print_summary(report.run, request.folder)
        if request.shard:
            print('When all shards have ended: the same command without --shard.')
        if report.results is not None:
            print(f'results file: {report.results}')
            if args.score:
                folder = report.results.parent
                show(score_results(report.results), folder / 'scores.json', folder / 'scores.md')
    return report.run.exit_code
