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

A stopped run goes on where it was. Results, formats: docs/evaluation.md; data sets:
docs/datasets.md.

Exit codes: 0 all well, 1 a photo failed (OUT/failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from run_bmp import AS_IN_CONFIG, config_options, rounds

if TYPE_CHECKING:
    from pipeline.dataset_run import DatasetRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

PROTOCOLS = ('loop', 'gt_boxes', 'gt_keypoints', 'detected_keypoints', 'oracle')


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        'test.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = argparse.BooleanOptionalAction
    add = parser.add_argument
    add('config', metavar='CONFIG', help='name in configs/ or file')
    add('--data', required=True, metavar='NAME|FILE', help='data set, or COCO annotation file')
    add('--images', type=Path, metavar='DIR', help='folder of the photos, if it is elsewhere')
    add('--data-root', type=Path, metavar='DIR', help='folder of the data sets (or $BMP_DATA)')
    add('--protocol', choices=PROTOCOLS, default='loop', help='see above (default: %(default)s)')
    add('--gt-boxes', action='store_true', help='detected_keypoints: boxes of the ground truth')
    add('--gt-masks', action='store_true', help='poses inside the masks of the ground truth')
    add('--out-dir', type=Path, metavar='OUT', help='default: outputs/test/CONFIG/DATA/PROTOCOL')
    add('--shard', metavar='I/N', help='the I-th of N parts, into OUT/shards/I-of-N')
    add('--limit', type=_count, metavar='N', help='the first N photos only')
    add('--resume', action=flag, default=True, help='skip photos that are done (default: yes)')
    add('--score', action='store_true', help='score at the end: OUT/scores.json and scores.md too')
    add('--device', help='auto, cpu, cuda, cuda:1, ... (default: what the config says)')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), help='default: what the config says')
    add('--max-rounds', type=rounds, default=AS_IN_CONFIG, metavar='N|none',
        help='loop: none goes on until nobody new is found')  # fmt: skip
    add('--refine', action=flag, default=None, help='loop: once more with the final masks')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
        help='override settings of the config')  # fmt: skip
    return parser


def request_of(args: argparse.Namespace, command: Sequence[str]) -> DatasetRequest:
    """What the arguments ask for.

    Raises:
        ValueError: options that do not go together.
    """
    from pipeline.dataset_run import DatasetRequest, Shard
    from pipeline.protocols import Protocol

    if args.shard and args.score:
        raise ValueError('--score goes with the run that puts the shards together')
    if args.protocol != 'loop' and (args.max_rounds != AS_IN_CONFIG or args.refine is not None):
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
        command=tuple(command),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from pipeline.openmmlab import quiet_libraries

    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        request = request_of(args, ['test.py', *(sys.argv[1:] if argv is None else argv)])
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(format='%(message)s')
    quiet_libraries()
    logging.getLogger('pipeline').setLevel(logging.INFO)
    try:
        return run(request, score=args.score)
    except KeyboardInterrupt:
        return 130


def run(request: DatasetRequest, *, score: bool) -> int:
    """Run the pipeline over the data set and print what came out."""
    from rich.console import Console

    from pipeline.dataset_run import run_dataset
    from pipeline.io.progress import make_reporter
    from pipeline.io.run import OutputError
    from pipeline.io.summary import print_summary
    from pipeline.protocols import load_protocol
    from pipeline.weights.checkpoints import CheckpointError

    console = Console()
    try:
        report = run_dataset(request, load=load_protocol, reporter=make_reporter())
        print_summary(report.run, request.folder, console)
        if request.shard:
            console.print('When all shards have ended: the same command without --shard.')
        if report.results is not None:
            console.print(f'results file: {report.results}', soft_wrap=True, highlight=False)
            if score:
                write_scores(report.results)
    except (ValueError, OSError, OutputError, CheckpointError) as error:
        print(f'test.py: error: {error}', file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return report.run.exit_code


def write_scores(results: Path) -> None:
    """Score a results file of this tool; the figures go to the screen and beside it."""
    from score import score_results, show

    metrics = score_results(results)
    show(metrics, results.with_name('scores.json'), results.with_name('scores.md'))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number from 1')
    return int(text)


if __name__ == '__main__':
    sys.exit(main())
