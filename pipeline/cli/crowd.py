"""Analyze a crowd: positions, occlusion, density, speed, flow, groups, zones and lines.

SOURCE is a folder of `bmp run` or of one of its videos, a file of People.save, tracks as
MOTChallenge text, or trajectories as PeTrack text; no model is needed then. Images and videos go
through the pipeline first, into OUT/results. Nothing is in metres without --camera, --points or
--assume-height. Files and definitions: docs/user_guide/crowd.md.

Examples:
    bmp crowd outputs/bmp_compact
    bmp crowd clip.mp4 --camera camera.json --zones zones.json --lines lines.json
    bmp crowd images/ --assume-height 1.7 --out-dir outputs/square
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import handle_errors, make_parser

if TYPE_CHECKING:
    from ..arrays import Image
    from ..crowd.analysis import CrowdAnalysis
    from ..crowd.camera import Camera
    from ..crowd.regions import Region
    from ..crowd.sources import CrowdSource

PROG = 'bmp crowd'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('source', nargs='+', metavar='SOURCE', help='results, or images and videos')
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument('--camera', type=Path, metavar='FILE', help='camera: JSON, or XML of Tsai')
    camera.add_argument('--points', type=Path, metavar='CSV',
        help='point pairs: columns x_px, y_px, x_m, y_m')  # fmt: skip
    camera.add_argument('--assume-height', type=float, metavar='M',
        help='fit a camera to people of this mean height; approximate')  # fmt: skip
    add('--max-residual', type=_parse_limit, default=0.5, metavar='M|none',
        help='of a pair of --points, m; none uses all pairs (default: 0.5)')  # fmt: skip
    add('--zones', type=Path, metavar='FILE', help='polygons, JSON')
    add('--lines', type=Path, metavar='FILE', help='lines, JSON')
    add('--fps', type=float, metavar='F',
        help='rate of tracks or frames that state none (default of files: 25)')  # fmt: skip
    add('--out-dir', type=Path, default=Path('outputs/crowd'), metavar='OUT',
        help='default: %(default)s')  # fmt: skip
    add('--config', default='bmp_compact', help='pipeline for images and videos '
        '(default: %(default)s)')  # fmt: skip
    add('--pictures', type=int, default=3, metavar='N',
        help='images with a drawn occlusion graph (default: 3)')  # fmt: skip
    add('--export', nargs='+', default=[], metavar='FORMAT',
        help='people of images for other programs: cvat, fiftyone, label-studio, shanghaitech, '
        'nwpu, crowdhuman')  # fmt: skip
    add('--parquet', action='store_true', help='also write people.parquet')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        from ..crowd.sources import find_sources, is_results

        if (args.fps or 1) <= 0 or (args.assume_height is not None and args.assume_height <= 0):
            raise ValueError('--fps and --assume-height must be above 0')
        camera, zones, lines = load_options(args)
        code = 0
        folders = [Path(source) for source in args.source]
        if not all(map(is_results, folders)):
            from .run import main as run

            results = args.out_dir / 'results'
            code = run([*args.source, '--config', args.config, '--out-dir', str(results),
                        '--save', 'json'])  # fmt: skip
            if not is_results(results):
                return code
            folders = [results]
        for folder in folders:
            for found in find_sources(folder, args.fps or 25.0):
                name = found.name or (folder.stem if len(folders) > 1 else '')
                _analyze(args, found, args.out_dir / name, camera, zones, lines)
    return code


def load_options(
    args: argparse.Namespace,
) -> tuple[Camera | None, list[Region], list[Region]]:
    """Load the files of the options and print what is known about the camera."""
    from ..crowd.camera import load_camera, load_points
    from ..crowd.regions import load_regions

    camera = None
    if args.camera is not None:
        camera = load_camera(args.camera)
    elif args.points is not None:
        camera = load_points(args.points, args.max_residual)
    for note in () if camera is None else camera.notes:
        print(f'camera: {note}')
    zones = [] if args.zones is None else load_regions(args.zones, 'zones')
    lines = [] if args.lines is None else load_regions(args.lines, 'lines')
    return camera, zones, lines


def _analyze(
    args: argparse.Namespace, source: CrowdSource, out_dir: Path, camera: Camera | None,
    zones: Sequence[Region], lines: Sequence[Region],
) -> None:  # fmt: skip
    from ..crowd.analysis import analyze
    from ..crowd.files import write_files
    from ..crowd.plots import draw_figures

    analysis = analyze(
        source.content, camera, zones, lines, assume_height_m=args.assume_height, fps=args.fps
    )
    write_files(analysis, out_dir, parquet=args.parquet)
    if args.export:
        _export(args.export, source, out_dir / 'exports')
    images = read_images(analysis, source.video, args.pictures)
    pictures = draw_figures(analysis, out_dir / 'figures', images)
    print_summary(analysis, out_dir, len(pictures))


def _export(formats: Sequence[str], source: CrowdSource, folder: Path) -> None:
    from ..crowd.exports import export
    from ..structures import People

    content = [source.content] if isinstance(source.content, People) else source.content
    if not isinstance(content, list):
        raise ValueError('--export takes people of images; `bmp run` writes the formats of videos')
    images = [
        (Path(people.path or str(n)).name, people)
        for n, people in enumerate(content)
        if isinstance(people, People)
    ]
    for name in formats:
        export(name, images, folder / name)


def read_images(analysis: CrowdAnalysis, video: str | None, limit: int) -> dict[int, Image]:
    """Up to ``limit`` images with people by number; those that cannot be read are left out."""
    from ..io.images import ImageReadError, as_image

    numbers = [n for n, o in analysis.occlusions.items() if o.hides.any()]
    numbers = (numbers or list(analysis.occlusions))[:: max(len(numbers) // max(limit, 1), 1)]
    numbers = numbers[:limit]
    if video is not None:
        from ..video.reader import VideoReader, VideoReadError

        wanted, found = set(numbers), {}
        try:
            for frame in VideoReader(video):
                if frame.index in wanted:
                    found[frame.index] = frame.image
                if len(found) == len(wanted):
                    break
        except VideoReadError:
            pass
        return found
    images = {}
    for number in numbers:
        try:
            images[number] = as_image(Path(analysis.image_names[number]), 'rgb')
        except (OSError, ImageReadError):
            continue
    return images


def print_summary(analysis: CrowdAnalysis, out_dir: Path, pictures: int) -> None:
    """Print the main figures and the warnings."""
    from ..crowd.summary import summarize

    summary = summarize(analysis)
    count = summary['people_per_image']
    print(
        f'{summary["people"]} people in {summary["images"]} images, {summary["tracks"]} tracks; '
        f'{count["mean"] or 0:.2f} per image (95 %: {count["low"] or 0:.2f} to '
        f'{count["high"] or 0:.2f})'
    )
    if analysis.occlusions:
        print(f'{summary["occlusion_pairs"]} times one person hides another')
    if analysis.camera is None and 'voronoi_density_per_m2' not in summary:
        print('no camera: no figure is in metres')
    for note in analysis.camera.notes if analysis.camera and analysis.camera.approximate else ():
        print(f'camera: {note}')
    for key, unit in (
        ('voronoi_density_per_m2', 'people per m2'), ('speed_m_per_s', 'm/s'),
        ('nearest_m', 'm to the nearest person'),
    ):  # fmt: skip
        if summary.get(key, {}).get('median') is not None:
            print(f'{summary[key]["median"]:.2f} {unit} (median)')
    for row in summary['zones']:
        print(f'zone {row["zone"]}: {row["mean_people"]:.2f} people on average')
    for row in summary['lines']:
        print(f'line {row["line"]}: {row["crossings"]} crossings')
    for warning in analysis.warnings:
        print(f'warning: {warning}')
    print(f'{out_dir}: tables, summary.json and {pictures} pictures in figures/')


def _parse_limit(text: str) -> float | None:
    return None if text.lower() == 'none' else float(text)
