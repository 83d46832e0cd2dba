"""Count the parameters of every released model and compare them with published figures.

No weights are needed: the models are built from their configs, OpenMMLab's without memory.

Examples:
    python -m projects.reference_parity.model_sizes
    python -m projects.reference_parity.model_sizes PMPose-b-1.0.0 SAM-pose2seg_hiera_b+

Exit codes: 0 all counts equal the published ones, 1 one differs, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.benchmark import markdown_table

if TYPE_CHECKING:
    from torch import nn

Kind = Literal['detector', 'pose', 'segmenter']

MMDET = 'MMDetection, README of RTMDet'
SAM2 = 'README of facebookresearch/sam2'
REFERENCE = 'counted in the code of BBoxMaskPose v2.0.0'
VITPOSE = 'ViTPose, arXiv 2204.12484'

COLUMNS = ('model', 'parameters, M (published)', 'parts, M (published)', 'source of published')

# Prefixes of the parameters of each part with a published figure.
PARTS: dict[Kind, dict[str, tuple[str, ...]]] = {
    'detector': {'backbone': ('backbone.',), 'neck': ('neck.',), 'head': ('bbox_head.',)},
    'pose': {
        'backbone': ('backbone.',),
        'heatmaps': ('head.deconv_layers.', 'head.final_layer.'),
        'branches': ('head.probability_layers.', 'head.visibility_layers.', 'head.oks_layers.'),
    },
    'segmenter': {
        'image encoder': ('image_encoder.',),
        'memory attention': ('memory_attention.',),
        'memory encoder': ('memory_encoder.',),
        'prompt encoder': ('sam_prompt_encoder.',),
        'mask decoder': ('sam_mask_decoder.',),
        'object pointers': ('obj_ptr_proj.', 'obj_ptr_tpos_proj.'),
    },
}


@dataclass(frozen=True)
class Published:
    """A published number of parameters.

    Attributes:
        part: name in `PARTS`, or 'total'.
        millions: as printed; the last digit is rounded or cut off.
        source: of the figure.
        fraction: part of the published figure that is built here.
        is_nominal: a name for the size of the network rather than a count.
    """

    part: str
    millions: str
    source: str
    fraction: float = 1.0
    is_nominal: bool = False

    def agrees(self, count: int) -> bool:
        """Whether a count equals the figure within one unit of the last digit printed."""
        unit = 10.0 ** -len(self.millions.partition('.')[2])
        return abs(count / 1e6 - float(self.millions) * self.fraction) < unit * self.fraction


@dataclass(frozen=True)
class ReleasedModel:
    """A model whose weights were released."""

    name: str
    kind: Kind
    config: str
    published: tuple[Published, ...]


def _vitpose(size: str) -> tuple[Published, ...]:
    # The paper quotes the sizes of Vision Transformers with class token and, for H, 14 px patches;
    # it has no S. tests/test_model_sizes.py holds all four to the formula of a ViT instead.
    millions = {'b': '86', 'l': '307', 'h': '632'}
    if size not in millions:
        return ()
    return (Published('backbone', millions[size], VITPOSE, is_nominal=True),)


def _pmpose(size: str, branches: str) -> ReleasedModel:
    # Four branches of equal size were counted; the fourth, frozen at random, is not built here.
    figures = (*_vitpose(size), Published('branches', branches, REFERENCE, fraction=0.75))
    if size == 'b':
        figures += (Published('heatmaps', '4.2', REFERENCE),)
    return ReleasedModel(f'PMPose-{size}-1.0.0', 'pose', f'models/pmpose_{size}.py', figures)


def _maskpose(size: str) -> ReleasedModel:
    config = f'models/maskpose_{size}.py'
    return ReleasedModel(f'MaskPose-{size}-1.1.0', 'pose', config, _vitpose(size))


def _openmmlab_vitpose(size: str, long_name: str) -> ReleasedModel:
    folder = 'mmpose::body_2d_keypoint/topdown_heatmap/coco'
    config = f'{folder}/td-hm_ViTPose-{long_name}_8xb64-210e_coco-256x192.py'
    return ReleasedModel(f'vitpose-{size}', 'pose', config, _vitpose(size))


def _rtmdet(size: str, millions: str) -> ReleasedModel:
    config = f'mmdet::rtmdet/rtmdet-ins_{size}_8xb32-300e_coco.py'
    figures = (Published('total', millions, MMDET),)
    return ReleasedModel(f'rtmdet-ins_{size}_coco', 'detector', config, figures)


def _sam2(name: str, config: str, millions: str) -> ReleasedModel:
    figures = (Published('total', millions, SAM2),)
    return ReleasedModel(f'sam2.1_hiera_{name}', 'segmenter', config, figures)


RELEASED = (
    ReleasedModel(
        'rtmdet-ins-l-mask',
        'detector',
        'models/rtmdet-ins_l_mask.py',
        (Published('total', '57.37', MMDET),),
    ),
    _pmpose('s', '16.0'),
    _pmpose('b', '63.8'),
    _pmpose('l', '113.4'),
    _pmpose('h', '177.1'),
    ReleasedModel('MaskPose-b-1.0.0', 'pose', 'models/maskpose_b_1.0.0.py', _vitpose('b')),
    *map(_maskpose, 'sblh'),
    ReleasedModel('ViTPose-b-multi', 'pose', 'models/vitpose_b_multi.py', _vitpose('b')),
    ReleasedModel(
        'SAM-pose2seg_hiera_b+',
        'segmenter',
        'sam2.1_hiera_b+',
        (
            Published('total', '80.8', SAM2),
            Published('image encoder', '69.1', REFERENCE),
            Published('memory attention', '5.9', REFERENCE),
            Published('memory encoder', '1.4', REFERENCE),
            Published('prompt encoder', '0.006', REFERENCE),
            Published('mask decoder', '4.2', REFERENCE),
            Published('object pointers', '0.2', REFERENCE),
        ),
    ),
    _rtmdet('tiny', '5.6'),
    _rtmdet('s', '10.18'),
    _rtmdet('m', '27.58'),
    _rtmdet('l', '57.37'),
    _openmmlab_vitpose('s', 'small'),
    _openmmlab_vitpose('b', 'base'),
    _openmmlab_vitpose('l', 'large'),
    _openmmlab_vitpose('h', 'huge'),
    _sam2('tiny', 'sam2.1_hiera_t', '38.9'),
    _sam2('small', 'sam2.1_hiera_s', '46'),
    _sam2('base_plus', 'sam2.1_hiera_b+', '80.8'),
    _sam2('large', 'sam2.1_hiera_l', '224.4'),
)


def build_empty(kind: Kind, config: str) -> nn.Module:
    """The model of a config, its parameters without memory (OpenMMLab) or random (SAM)."""
    import torch

    from pipeline.config import CONFIG_FOLDER, find_model_config
    from pipeline.openmmlab import Library, build_model, read_model_config
    from pipeline.segmenters.build_sam2 import build_sam2_model

    path = find_model_config(config, CONFIG_FOLDER / 'any.py')
    if kind == 'segmenter':
        sam: nn.Module = build_sam2_model(path, None, 'cpu')  # reads numbers back while building
        return sam
    library: Library = 'mmdet' if kind == 'detector' else 'mmpose'
    loaded = read_model_config(path, library)
    with torch.device('meta'):
        model, _ = build_model(loaded, None, library)
    return model


def count_parameters(model: nn.Module, kind: Kind) -> dict[str, int]:
    """Number of parameters by part, what belongs to none as 'other', and 'total'."""
    counts = dict.fromkeys(PARTS[kind], 0) | {'other': 0, 'total': 0}
    for name, parameter in model.named_parameters():
        owners = [part for part, prefixes in PARTS[kind].items() if name.startswith(prefixes)]
        counts[owners[0] if owners else 'other'] += parameter.numel()
        counts['total'] += parameter.numel()
    return {part: count for part, count in counts.items() if count}


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        'python -m projects.reference_parity.model_sizes',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ', '.join(model.name for model in RELEASED)
    parser.add_argument('models', nargs='*', metavar='MODEL', help=f'any of {names} (default: all)')
    return parser


def row_of(model: ReleasedModel, counts: dict[str, int]) -> tuple[str, str, str, str]:
    """The row of a model: name, total, parts, sources."""
    figures = {figure.part: figure for figure in model.published}
    cells = {part: _cell(count, figures.get(part)) for part, count in counts.items()}
    total = cells.pop('total')
    parts = ', '.join(f'{part} {cell}' for part, cell in cells.items())
    sources = dict.fromkeys(figure.source for figure in model.published)
    return model.name, total, parts, '; '.join(sources)


def _cell(count: int, figure: Published | None) -> str:
    text = f'{count / 1e6:.3f}'
    if figure is None:
        return text
    fraction = '' if figure.fraction == 1 else f' x {figure.fraction}'
    remark = ', nominal' if figure.is_nominal else '' if figure.agrees(count) else ', DIFFERS'
    return f'{text} ({figure.millions}{fraction}{remark})'


def differing_parts(model: ReleasedModel, counts: dict[str, int]) -> list[str]:
    """Parts whose count is not the published one; nominal figures are not compared."""
    figures = [figure for figure in model.published if not figure.is_nominal]
    return [figure.part for figure in figures if not figure.agrees(counts[figure.part])]


def main(argv: Sequence[str] | None = None) -> int:
    """Count, compare, print the table."""
    parser = build_parser()
    args = parser.parse_args(argv)
    known = {model.name: model for model in RELEASED}
    for name in args.models:
        if name not in known:
            parser.error(f'no model {name!r}; known: {", ".join(known)}')
    models = [known[name] for name in args.models or known]
    counts = [
        count_parameters(build_empty(model.kind, model.config), model.kind) for model in models
    ]
    print(markdown_table(COLUMNS, list(map(row_of, models, counts))))
    wrong = [
        f'{model.name}: {part}'
        for model, count in zip(models, counts, strict=True)
        for part in differing_parts(model, count)
    ]
    if wrong:
        print(f'other than published: {", ".join(wrong)}', file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
