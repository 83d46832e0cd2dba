"""The command line: ``bmp COMMAND ...``, or ``python -m pipeline COMMAND ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from . import __version__
from .cli.streams import robust_output
from .values import install_hint

# Command -> module of this package with a `main`, options to insert; and its line in the help.
COMMANDS = {
    'run': ('cli.run', 'find every person in images: box, mask and keypoints'),
    'track': ('cli.run --videos', 'the same for videos alone: follow every person'),
    'demo': ('cli.web', 'try it in the browser: images, videos, webcam'),
    'status': ('cli.jobs status', 'show the state of a job of many images'),
    'merge': ('cli.jobs merge', 'merge the shards of a job: COCO, CSV, Parquet'),
    'report': ('cli.report', 'write a page with every image, its people and its rounds'),
    'test': ('cli.test', 'run a pipeline on a data set'),
    'score': ('cli.score', 'compute box, mask and keypoint AP of a results file'),
    'score-tracks': ('cli.score_tracks', 'compute HOTA, MOTA and IDF1 of tracks'),
    'crowd': ('cli.crowd', 'analyze a crowd: positions, occlusion, density, flow, groups'),
    'compare': ('cli.compare_results', 'compare two results files, with a web page'),
    'analyze': ('cli.analyze_results', 'study the scores and errors of a results file'),
    'train': ('cli.train', 'train a detector, a pose model or a segmenter'),
    'export-sam': ('cli.export_sam', 'export a trained segmenter as SAM 2 weights'),
    'predict-keypoints': ('cli.predict_keypoints', 'add predicted keypoints to a COCO file'),
    'convert': ('cli.convert_dataset', 'convert a data set to the COCO format'),
    'draw-crowd': ('cli.make_synthetic_crowd', 'draw crowds with exact annotations'),
    'draw-video': ('cli.make_synthetic_video', 'draw crowds in motion with exact annotations'),
    'download': ('cli.download_checkpoints', 'download weights, list and verify them'),
    'benchmark': ('cli.benchmark', 'measure the time and memory of each stage'),
    'doctor': ('doctor', 'check the installation'),
}
# Package that only some commands import -> extra of this project that installs it.
EXTRAS = {
    'faster_coco_eval': 'eval',
    'scipy': 'train',
    'matplotlib': 'plots',
    'fsspec': 'parquet',
    'pyarrow': 'parquet',
    'ray': 'ray',
    'networkx': 'crowd',
    'pedpy': 'crowd',
    'shapely': 'crowd',
    'gradio': 'web',
}
USAGE = 'usage: bmp COMMAND [OPTIONS]'


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code, or 2 without one."""
    with robust_output():
        return _run_command(argv)


def _run_command(argv: Sequence[str] | None) -> int:
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ['--help']
    if name in ('-h', '--help', 'help'):
        print(describe_commands())
        return 0
    if name == '--version':
        print(f'bbox-mask-pose {__version__}')
        return 0
    if name not in COMMANDS:
        print(f'{describe_commands()}\n\nbmp: error: no command {name!r}', file=sys.stderr)
        return 2
    module, *inserted = COMMANDS[name][0].split()
    try:
        return int(import_module(f'.{module}', 'pipeline').main([*inserted, *arguments]))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or '').partition('.')[0])
        if extra is None:
            raise
        hint = f'install it with: {install_hint(extra)}'
        print(f'bmp {name}: error: {error}; {hint}', file=sys.stderr)
        return 1


def describe_commands() -> str:
    """Return the help: one line per command."""
    lines = [f'  {name:<18} {text}' for name, (_, text) in COMMANDS.items()]
    more = '`bmp COMMAND --help` lists the options of a command.'
    return '\n'.join(
        [USAGE, '', 'BBox-Mask-Pose: people in images and videos.', '', *lines, '', more]
    )


if __name__ == '__main__':
    sys.exit(main())
