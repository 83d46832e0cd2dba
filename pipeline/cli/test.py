"""Run a pipeline on a data set and write a results file for `bmp score`.

Protocols (recorded in every output):
    loop                detector boxes, the whole loop
    gt_boxes            ground-truth boxes -> pose; --gt-masks: inside ground-truth masks
    gt_keypoints        ground-truth keypoints (v = 2) -> mask
    detected_keypoints  boxes (detector, or --gt-boxes) -> pose -> mask, one pass
    oracle              ground truth replayed, no model; tests data and scorer

Examples:
    bmp test bmp_compact --data my_annotations.json --images images/ --score
    bmp test bmp_v2 --data ochuman_val --protocol gt_keypoints --device cuda
    bmp test bmp_v2 --data coco_val2017 --shard 1/4     # in parallel: 2/4, 3/4, 4/4
    bmp test bmp_v2 --data coco_val2017                 # then merge the shards

Run the same command again to continue a stopped run. Results and formats:
docs/user_guide/evaluation.md; data sets: docs/user_guide/datasets.md.

Exit codes: 0 success, 1 an image failed (OUT/failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.results import PROTOCOLS
from ..io.shard import Shard
from .job_options import add_engine_options
from .options import (
    add_data_root,
    add_loop_options,
    add_person_category,
    add_runtime_options,
    get_command,
    get_overrides,
    handle_errors,
    make_parser,
    make_reporter,
    parse_positive,
)
from .score import find_ground_truth, report
from .summary import print_summary

if TYPE_CHECKING:
    from .dataset_run import DatasetRequest

PROG = 'bmp test'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='name in configs/ or file')
    add('--data', required=True, metavar='NAME|FILE', help='data set, or COCO annotation file')
    add('--images', type=Path, metavar='DIR', help='folder of the images (default: data set)')
    add_data_root(parser)
    add_person_category(parser)
    add('--protocol', choices=tuple(PROTOCOLS), default='loop',
        help='see above (default: %(default)s)')  # fmt: skip
    add('--gt-boxes', action='store_true', help='detected_keypoints: ground-truth boxes')
    add('--gt-masks', action='store_true', help='poses inside ground-truth masks')
    add('--out-dir', type=Path, metavar='OUT', help='default: outputs/test/CONFIG/DATA/PROTOCOL')
    add('--shard', metavar='I/N', help='the I-th of N parts, into OUT/shards/I-of-N')
    add('--limit', type=parse_positive, metavar='N', help='the first N images only')
    add('--resume', action=argparse.BooleanOptionalAction, default=True,
        help='skip images that are done (default: yes)')  # fmt: skip
    add_engine_options(parser)
    add('--score', action='store_true', help='score the results: OUT/scores.json and scores.md')
    add_loop_options(parser)
    add_runtime_options(parser)
    return parser


def build_request(args: argparse.Namespace, command: tuple[str, ...]) -> DatasetRequest:
    """Build the request of the arguments.

    Raises:
        ValueError: Options exclude each other.
    """
    from .dataset_run import DatasetRequest
    from .protocols import Protocol

    if args.shard and args.engine:
        raise ValueError('--engine and --shard exclude each other; --engine runs all shards')
    if args.shard and args.score:
        raise ValueError('--score and --shard exclude each other; score the run without --shard')
    if args.protocol != 'loop' and {'max_rounds', 'refine'} & set(vars(args)):
        raise ValueError(f'--max-rounds and --refine need --protocol loop, not {args.protocol}')
    out_dir = Path('outputs/test', Path(args.config).stem, Path(args.data).stem, args.protocol)
    return DatasetRequest(
        config=args.config,
        data=args.data,
        out_dir=args.out_dir or out_dir,
        protocol=Protocol(args.protocol, gt_boxes=args.gt_boxes, gt_masks=args.gt_masks),
        cfg_options=get_overrides(args),
        data_root=args.data_root,
        images=args.images,
        person_category=args.person_category,
        shard=Shard.parse(args.shard) if args.shard else None,
        limit=args.limit,
        resume=args.resume,
        command=command,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline on the data set and print the results; returns the exit code."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        from .dataset_run import run_dataset
        from .protocols import load_protocol

        request = build_request(args, get_command(PROG, argv))
        if args.engine:
            from .jobs import run_parts

            run_parts(args, request)
        done = run_dataset(request, load=load_protocol, reporter=make_reporter())
        print_summary(done.run, request.folder)
        if request.shard:
            print('After all shards, run the same command without --shard to merge them.')
        if done.results is not None:
            print(f'results file: {done.results}')
            if args.score:
                folder = done.results.parent
                from ..evaluation.coco import score_files

                file, person = find_ground_truth(done.results), args.person_category
                metrics = score_files(done.results, file, person_category=person)
                report(metrics, folder / 'scores.json', folder / 'scores.md')
    return done.run.exit_code
