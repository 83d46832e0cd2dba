"""Every released model has the published number of parameters, and every list agrees."""

from __future__ import annotations

import pytest

from pipeline.config import CONFIG_FOLDER, load_config
from pipeline.weights.manifest import read_manifest
from projects.reference_parity.model_sizes import (
    RELEASED,
    Published,
    ReleasedModel,
    build_empty,
    count_parameters,
    differing_parts,
    main,
    row_of,
)

# Width, depth of the backbones (reference and ViTPose paper); S has 12 heads, which adds nothing.
VIT = {'s': (384, 12), 'b': (768, 12), 'l': (1024, 24), 'h': (1280, 32)}
WITH_21 = ('MaskPose-b-1.0.0', 'ViTPose-b-multi')


def vit_parameters(width: int, depth: int) -> int:
    """Parameters of a ViT on 256 x 192 px, patches of 16, no class token (arXiv 2010.11929)."""
    attention = 4 * (width * width + width)
    mlp = width * 4 * width + 4 * width + 4 * width * width + width
    layer = attention + mlp + 2 * 2 * width
    patches = 3 * 16 * 16 * width + width + 16 * 12 * width
    return patches + depth * layer + 2 * width


def heatmap_parameters(width: int, points: int) -> int:
    """Two 4 x 4 deconvolutions to 256 channels with batch norm, then a 1 x 1 convolution."""
    deconvolutions = (width * 256 + 256 * 256) * 16 + 2 * 2 * 256
    return deconvolutions + 256 * points + points


def branch_parameters(width: int, points: int) -> int:
    """Three 3 x 3 convolutions with batch norm, then a 1 x 1 convolution."""
    return 3 * (9 * width * width + width + 2 * width) + width * points + points


@pytest.mark.parametrize('model', RELEASED, ids=lambda model: model.name)
def test_parameters_are_those_published(model: ReleasedModel) -> None:
    counts = count_parameters(build_empty(model.kind, model.config), model.kind)
    assert differing_parts(model, counts) == []
    assert sum(counts.values()) == 2 * counts['total']
    if model.kind != 'pose':
        return
    width, depth = VIT[model.name.split('-')[1]]
    points = 17 if model.name.startswith('vitpose') else 21 if model.name in WITH_21 else 23
    expected = {'backbone': vit_parameters(width, depth)}
    expected['heatmaps'] = heatmap_parameters(width, points)
    if model.name.startswith('PMPose'):
        expected['branches'] = 3 * branch_parameters(width, points)
    assert counts == expected | {'total': sum(expected.values())}


@pytest.mark.parametrize(
    ('millions', 'fraction', 'count', 'agrees'),
    [
        ('57.37', 1.0, 57_365_700, True),
        ('57.37', 1.0, 57_385_000, False),
        ('80.8', 1.0, 80_850_178, True),  # cut off, not rounded
        ('46', 1.0, 46_960_000, True),
        ('46', 1.0, 47_100_000, False),
        ('63.8', 0.75, 47_849_500, True),
        ('63.8', 0.75, 63_800_000, False),
    ],
)
def test_a_figure_is_as_exact_as_it_is_printed(
    millions: str, fraction: float, count: int, agrees: bool
) -> None:
    assert Published('total', millions, 'paper', fraction).agrees(count) == agrees


def test_a_difference_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ReleasedModel('m', 'detector', '', (Published('total', '5.7', 'paper'),))
    assert row_of(model, {'head': 4_000_000, 'total': 6_000_000}) == (
        'm', '6.000 (5.7, DIFFERS)', 'head 4.000', 'paper',
    )  # fmt: skip
    monkeypatch.setattr('projects.reference_parity.model_sizes.RELEASED', (model,))
    monkeypatch.setattr(
        'projects.reference_parity.model_sizes.build_empty', lambda kind, config: None
    )
    monkeypatch.setattr(
        'projects.reference_parity.model_sizes.count_parameters',
        lambda *_: {'total': 6_000_000},
    )
    assert main([]) == 1
    assert 'other than published: m: total' in capsys.readouterr().err


def test_the_zoo_lists_every_file_to_download_and_no_other() -> None:
    kinds = {entry.name: entry.kind for entry in read_manifest().values() if not entry.embedded}
    assert {model.name: model.kind for model in RELEASED} == kinds


@pytest.mark.parametrize('name', sorted(p.stem for p in CONFIG_FOLDER.glob('bmp_*.py')))
def test_pipelines_name_models_of_the_zoo_with_their_configs(name: str) -> None:
    settings = load_config(name).settings
    configs = {model.name: model.config for model in RELEASED}
    for part in (settings.detector, settings.pose, settings.segmenter):
        assert part.checkpoint is not None
        embedded = read_manifest()[part.checkpoint].embedded
        assert embedded or configs[part.checkpoint] == part.config
