"""Prove for every shipped pipeline that its released files would load and run, without them.

For each case the three models are built in full size with random weights, saved in the layout and
under the names of the released files, loaded again by `load_pipeline` as a user's files would be
(strictly), and run on one image on the CPU. The result must be well formed and equal to that of
the models which were saved. The files are removed afterwards; one case needs up to 6 GB of disk
and 8 GB of memory (ViT-H).

Examples:
    python -m projects.reference_parity.full_size --list
    python -m projects.reference_parity.full_size bmp_v2 bmp_v2_plus
    python -m projects.reference_parity.full_size > table.md

Exit codes: 0 all cases hold, 1 one does not, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import gc
import importlib.resources
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.benchmark import markdown_table

if TYPE_CHECKING:
    from pipeline.api import LoadedPipeline
    from pipeline.build import BuiltPipeline
    from pipeline.config import PipelineConfig
    from pipeline.structures import People

STAGES = ('detector', 'pose', 'segmenter')
COLUMNS = (
    'case', 'parameters, M', 'files, MB', 'load, CPU s', 'run, CPU s', 'peak, MiB', 'people',
    'result',
)  # fmt: skip

# Random models are sure of nothing: with these settings SAM is prompted all the same. The boxes
# serve round one, the detector the second round.
RUN_OPTIONS: dict[str, Any] = {
    'runtime.device': 'cpu',
    'pose.flip_test': False,
    'detector.max_people': 2,
    'segmenter.prompt.visibility_threshold': 0.0,
    'segmenter.prompt.min_confident': None,
}
BOXES = ((60, 10, 420, 510), (250, 40, 400, 300))  # xyxy px in the 512 x 512 image


@dataclass(frozen=True)
class Case:
    """A pipeline, with models of other sizes than its config names."""

    name: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What checking a case has shown; seconds are CPU time of all threads, whatever else runs."""

    case: str
    parameters: int
    file_bytes: int
    load_seconds: float
    run_seconds: float
    peak_bytes: int
    people: int
    problem: str  # '' when all holds

    @classmethod
    def failed(cls, case: Case, error: Exception) -> Report:
        """The report of a case that came to no result."""
        return cls(case.name, 0, 0, 0, 0, 0, 0, f'{type(error).__name__}: {error}')

    @property
    def row(self) -> tuple[str, ...]:
        """The report as text, in the order of `COLUMNS`."""
        return (
            self.case,
            f'{self.parameters / 1e6:.1f}',
            f'{self.file_bytes / 1e6:.0f}',
            f'{self.load_seconds:.1f}',
            f'{self.run_seconds:.1f}',
            f'{self.peak_bytes / 2**20:.0f}',
            str(self.people),
            self.problem or 'equal',
        )


def all_cases() -> list[Case]:
    """Every shipped pipeline with weights to download, then the sizes that none of them names."""
    from pipeline.config import CONFIG_FOLDER

    names = sorted(path.stem for path in CONFIG_FOLDER.glob('bmp_*.py'))
    cases = [Case(name, name) for name in names if name != 'bmp_compact']
    for size in 'slh':
        pose = {
            'pose.config': f'models/maskpose_{size}.py',
            'pose.checkpoint': f'MaskPose-{size}-1.1.0',
        }
        cases.append(Case(f'bmp_maskpose, MaskPose-{size}', 'bmp_maskpose', pose))
    for short, name in (('t', 'tiny'), ('s', 'small'), ('l', 'large')):
        sam = {
            'segmenter.config': f'sam2.1_hiera_{short}',
            'segmenter.checkpoint': f'sam2.1_hiera_{name}',
        }
        cases.append(Case(f'bmp_stock_sam, SAM 2.1 {short}', 'bmp_stock_sam', sam))
    return cases


def without_repeats(cases: Sequence[Case]) -> list[Case]:
    """The cases with compact models in place of full-size ones that an earlier case has.

    Every pipeline and every released file is still checked, in a third of the time.
    """
    from pipeline.config import load_config

    compact = load_config('bmp_compact', {}).settings
    seen, result = set(), []
    for case in sorted(cases, key=lambda case: case.name != 'bmp_v2'):
        settings, options = load_config(case.config, case.options).settings, dict(case.options)
        for stage in STAGES:
            model = getattr(settings, stage)
            if (model.config, model.checkpoint) in seen:
                small = getattr(compact, stage)
                options |= {
                    f'{stage}.config': small.config,
                    f'{stage}.checkpoint': small.checkpoint,
                }
            seen.add((model.config, model.checkpoint))
        result.append(replace(case, options=options))
    return result


def in_own_process(case: Case, parent: Path | None) -> Report:
    """Check a case where no memory of another one counts, with its files in a folder of its own.

    A process that dies, for want of memory perhaps, is the problem of its case.
    """
    with (
        tempfile.TemporaryDirectory(prefix='bmp-full-size-', dir=parent) as folder,
        ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool,
    ):
        try:
            return pool.submit(report_of, case, Path(folder)).result()
        except BrokenExecutor as error:
            return Report.failed(case, error)


def report_of(case: Case, folder: Path) -> Report:
    """Check a case; what goes wrong is its problem."""
    try:
        return check_case(case, folder)
    except (OSError, RuntimeError, ValueError) as error:
        return Report.failed(case, error)


def check_case(case: Case, folder: Path) -> Report:
    """Build, save, load and run one case.

    Args:
        case: what to check.
        folder: empty folder for the files, which stay there.
    """
    import torch

    from pipeline.api import LoadedPipeline, load_pipeline
    from pipeline.build import build_pipeline
    from pipeline.config import load_config
    from pipeline.io.images import read_image
    from pipeline.runtime.memory import peak_bytes
    from pipeline.runtime.options import RuntimeOptions
    from pipeline.runtime.precision import optimize_modules
    from pipeline.segmenters.lean_encoder import lean_encoder
    from pipeline.segmenters.sam2_segmenter import PARTS

    image = read_image(Path(str(importlib.resources.files('skimage') / 'data' / 'astronaut.png')))
    options = RUN_OPTIONS | case.options
    resolved = load_config(case.config, options)
    torch.manual_seed(0)
    without_files = {f'{stage}.checkpoint': None for stage in STAGES}
    # `lean_encoder` changes the names of weights: it runs after they are saved.
    random = load_config(case.config, options | without_files | {'segmenter.encoder': None})
    built = build_pipeline(random)
    see_people(models_of(built)['detector'])
    saved = save_as_released(built, resolved.settings, folder)
    parameters = sum(_size(model) for model in models_of(built).values())
    lean = models_of(built)['segmenter']
    lean_encoder(lean, grouped=True)
    optimize_modules(lean, PARTS, RuntimeOptions('cpu'))
    expected = LoadedPipeline(random, built, 0.0)(image, BOXES)
    del built
    gc.collect()
    start = time.process_time()
    with downloads_in(folder):
        loaded = load_pipeline(case.config, options | saved.options)
    ready = time.process_time()
    found = loaded(image, BOXES)
    return Report(
        case.name,
        parameters,
        sum(path.stat().st_size for path in folder.iterdir()),
        ready - start,
        time.process_time() - ready,
        peak_bytes(),
        len(found),
        problem_with(found, expected, image.shape[:2]) or saved.problem_with(loaded),
    )


@dataclass(frozen=True)
class SavedFiles:
    """Files of a case: their hashes by name, and the options that are needed to load them."""

    hashes: dict[str, str]
    options: dict[str, str]

    def problem_with(self, loaded: LoadedPipeline) -> str:
        """Whether the pipeline was made of these very files."""
        return '' if loaded.weights == self.hashes else f'loaded other files: {loaded.weights}'


def save_as_released(built: BuiltPipeline, settings: PipelineConfig, folder: Path) -> SavedFiles:
    """Save the models of a pipeline as the files that its config names."""
    import torch

    from pipeline.io.atomic import compute_sha256
    from pipeline.weights.manifest import locate_weights, read_manifest

    hashes, options = {}, {}
    for stage, content in contents_of(built).items():
        entry = read_manifest()[getattr(settings, stage).checkpoint]
        path = folder / locate_weights(entry, folder).name  # never an embedded file itself
        torch.save(content, path)
        name = entry.name
        if entry.sha256 or entry.sha256_prefix or entry.size:
            # Random weights lack the checksum of the manifest; a file given by path is not checked.
            options[f'{stage}.checkpoint'], name = str(path), path.name
        hashes[name] = compute_sha256(path)
    return SavedFiles(hashes, options)


def contents_of(built: BuiltPipeline) -> dict[str, dict[str, Any]]:
    """What the released file of each stage would hold, with the weights of these models."""
    import torch
    from mmdet.datasets import CocoDataset

    models = models_of(built)
    states = {stage: dict(model.state_dict()) for stage, model in models.items()}
    # Released PMPose files hold a fourth scalar branch, of the same shape as the others.
    branch = {k: v for k, v in states['pose'].items() if k.startswith('head.oks_layers.')}
    for key, value in branch.items():
        states['pose'][key.replace('oks', 'error', 1)] = torch.zeros_like(value)
    pose: Any = built.run.pose_estimator
    detector_meta = {'dataset_meta': {'classes': CocoDataset.METAINFO['classes']}}
    return {
        'detector': {'meta': detector_meta, 'state_dict': states['detector']},
        'pose': {'meta': {'dataset_meta': pose.dataset_meta}, 'state_dict': states['pose']},
        'segmenter': {'model': states['segmenter']},
    }


def see_people(detector: Any) -> None:
    """Shift the outputs of a random RTMDet: every place is a person, some strides in size."""
    import torch

    with torch.no_grad():
        for classes, sides in zip(
            detector.bbox_head.rtm_cls, detector.bbox_head.rtm_reg, strict=True
        ):
            classes.bias[0] += 4
            sides.bias += 4


def models_of(built: BuiltPipeline) -> dict[str, Any]:
    """The network of each stage."""
    run: Any = built.run
    stages = (run.detector, run.pose_estimator, run.segmenter)
    return {name: stage.model for name, stage in zip(STAGES, stages, strict=True)}


def problem_with(found: People, expected: People, shape: Sequence[int]) -> str:
    """What is wrong with people found by the loaded models; '' when nothing is."""
    from pipeline.io.records import people_to_record
    from pipeline.structures import MaskSource

    height, width = shape
    inside = (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()
    shares = (found.scores, found.keypoint_scores, found.presence, found.visibility)
    checks = {
        'a round without people': len(set(found.rounds.tolist())) == 2,
        'no mask by SAM': bool((found.mask_sources == MaskSource.SAM).any()),
        'no prompts': bool((found.prompts[:, 0] >= 0).any()),
        'other image shape': found.image_shape == (height, width),
        'boxes outside': bool(inside),
        'scores outside [0, 1]': all(((s >= 0) & (s <= 1)).all() for s in shares),
        'masks that share pixels': bool((_layers(found) <= 1).all()),
    }
    problems = [problem for problem, holds in checks.items() if not holds]
    try:
        if people_to_record(found) != people_to_record(expected):
            problems.append('not equal to the models that were saved')
    except ValueError as error:  # not finite
        problems.append(str(error))
    return '; '.join(problems)


def _layers(people: People) -> Any:
    """Number of masks (H, W) that cover each pixel."""
    return sum(people.masks.dense(i).astype(int) for i in range(len(people)))


def _size(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def downloads_in(folder: Path) -> Iterator[None]:
    """Inside the block, downloaded files are looked for in this folder."""
    before = os.environ.get('BMP_CHECKPOINTS')
    os.environ['BMP_CHECKPOINTS'] = str(folder)
    try:
        yield
    finally:
        del os.environ['BMP_CHECKPOINTS']
        if before is not None:
            os.environ['BMP_CHECKPOINTS'] = before


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        'python -m projects.reference_parity.full_size',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('cases', nargs='*', metavar='CASE', help='names of --list (default: all)')
    parser.add_argument('--list', action='store_true', help='list the cases and stop')
    parser.add_argument('--folder', type=Path, help='where the files are put for a while')
    return parser


def chosen(names: Sequence[str], known: Mapping[str, Case]) -> list[Case]:
    """Cases by name, all of them for no name.

    Raises:
        ValueError: there is no such case.
    """
    for name in names:
        if name not in known:
            raise ValueError(f'no case {name!r}; known: {"; ".join(known)}')
    return [known[name] for name in names] or list(known.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Check the cases one after the other, print the table."""
    parser = build_parser()
    args = parser.parse_args(argv)
    known = {case.name: case for case in all_cases()}
    if args.list:
        print('\n'.join(known))
        return 0
    try:
        cases = chosen(args.cases, known)
    except ValueError as error:
        parser.error(str(error))
    reports = []
    for case in cases:
        reports.append(in_own_process(case, args.folder))
        print(' | '.join(reports[-1].row), file=sys.stderr, flush=True)
    print(markdown_table(COLUMNS, [report.row for report in reports]))
    return 1 if any(report.problem for report in reports) else 0


if __name__ == '__main__':
    sys.exit(main())
