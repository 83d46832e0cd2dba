"""Building stock SAM 2 models without Hydra's global state."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from pipeline.segmenters.build_sam2 import (
    build_sam2_model,
)
from pipeline.segmenters.sam2_configs import packaged_config_names
from pipeline.segmenters.sam2_package import import_sam2
from pipeline.weights.manifest import CheckpointError

COMPACT = Path(__file__).parents[2] / 'configs' / 'compact' / 'sam2.1_hiera_compact.yaml'


# Programs that use Hydra before or after this package builds a model.
HOSTS = {
    'Hydra later': """
        {build}
        assert not GlobalHydra.instance().is_initialized()
        initialize_config_module('sam2', version_base='1.3')
        assert GlobalHydra.instance().is_initialized()
    """,
    'Hydra before': """
        initialize_config_module('hydra.test_utils', version_base='1.3')
        before = GlobalHydra.instance().hydra
        {build}
        assert GlobalHydra.instance().hydra is before
    """,
    'SAM 2 before': """
        from sam2.build_sam import build_sam2
        {build}
        build_sam2('configs/sam2.1/sam2.1_hiera_t.yaml', device='cpu')
    """,
}
IMPORTS = """
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
"""
BUILD = (
    'from pipeline.segmenters.build_sam2 import build_sam2_model; '
    f"build_sam2_model({str(COMPACT)!r}, None, 'cpu')"
)


@pytest.mark.parametrize('name', HOSTS)
def test_hydra_of_the_host_is_left_alone(name):
    """In a fresh interpreter, where neither Hydra nor sam2 is imported yet."""
    code = IMPORTS * ('Hydra' in name) + textwrap.dedent(HOSTS[name].format(build=BUILD))
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('postprocessing', [True, False])
def test_equals_the_stock_builder(postprocessing):
    from hydra import initialize_config_module

    import_sam2()
    from hydra.core.global_hydra import GlobalHydra
    from sam2.build_sam import build_sam2

    GlobalHydra.instance().clear()  # another test may have imported sam2 itself

    name = 'configs/sam2.1/sam2.1_hiera_t.yaml'
    with initialize_config_module('sam2', version_base='1.2'):
        stock = build_sam2(name, device='cpu', apply_postprocessing=postprocessing)
    built = build_sam2_model(name, None, 'cpu', dynamic_multimask=postprocessing)

    shapes = {key: value.shape for key, value in stock.state_dict().items()}
    assert {key: value.shape for key, value in built.state_dict().items()} == shapes
    for setting in (
        'dynamic_multimask_via_stability',
        'dynamic_multimask_stability_delta',
        'dynamic_multimask_stability_thresh',
    ):
        assert getattr(built.sam_mask_decoder, setting) == getattr(stock.sam_mask_decoder, setting)
    assert not built.training


def test_names_of_the_package():
    names = packaged_config_names()
    assert 'sam2.1_hiera_b+' in names and 'sam2_hiera_l' in names
    assert not any('MOSE' in name for name in names)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"'sam2.1_hiera_xl'.*sam2.1_hiera_b\+"):
        build_sam2_model('sam2.1_hiera_xl', None, 'cpu')


@pytest.mark.parametrize('package', ['sam2', 'bboxmaskpose.sam2'])
def test_the_config_of_the_reference_is_refused_with_the_stock_one_to_use(tmp_path, package):
    path = tmp_path / 'sam-pose2seg_hiera_b+.yaml'
    path.write_text(
        f'model: {{_target_: {package}.modeling.sam2_base.SAM2Base, n_kpts_encoder: 8}}'
    )
    with pytest.raises(ValueError, match=r"n_kpts_encoder.*config='sam2\.1_hiera_b\+'"):
        build_sam2_model(path, None, 'cpu')


# Parts of the released B+ layout, which are those of stock SAM 2.1.
PARTS = {
    'image_encoder', 'mask_downsample', 'maskmem_tpos_enc', 'memory_attention', 'memory_encoder',
    'no_mem_embed', 'no_mem_pos_enc', 'no_obj_embed_spatial', 'no_obj_ptr', 'obj_ptr_proj',
    'obj_ptr_tpos_proj', 'sam_mask_decoder', 'sam_prompt_encoder',
}  # fmt: skip


@pytest.fixture(scope='module')
def pose2seg_file(tmp_path_factory):
    """Random weights in the layout of the released file: B+ under the key `model`."""
    torch.manual_seed(0)
    state = build_sam2_model('sam2.1_hiera_b+', None, 'cpu').state_dict()
    path = tmp_path_factory.mktemp('pose2seg') / 'SAM-pose2seg_hiera_b+.pt'
    torch.save({'model': state}, path)
    yield path
    path.unlink()


def test_sam_pose2seg_loads_strictly_into_the_stock_model(pose2seg_file):
    saved = torch.load(pose2seg_file, weights_only=True)['model']
    assert len(saved) == 615
    assert {key.split('.')[0] for key in saved} == PARTS
    model = build_sam2_model('sam2.1_hiera_b+', pose2seg_file, 'cpu')
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    assert model.image_size == 1024


@pytest.mark.parametrize('size', ['t', 's', 'l'])
def test_another_size_than_the_file_is_refused(pose2seg_file, size):
    with pytest.raises(CheckpointError, match=r'of another shape: .*image_encoder'):
        build_sam2_model(f'sam2.1_hiera_{size}', pose2seg_file, 'cpu')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model: {_target_: os.system, command: exit}', 'names the class os.system'),
        ('model: {_target_: sam2.modeling.sam2_utils.MLP, a: {_target_: os.getcwd}}', 'os.getcwd'),
        *(
            (f'model: {{_target_: {target}, f: x, weights_only: false}}', message)
            for target, message in (
                ('sam2.build_sam.torch.load', 'only model classes of sam2'),
                ('sam2.build_sam.build_sam2', 'only model classes of sam2'),
                ('sam2.modeling.sam2_base.torch.nn.Linear', 'only model classes of sam2'),
                ('sam2.utils.misc.AsyncVideoFrameLoader', 'only model classes of sam2'),
                ('sam2.modeling.sam2_base.SAM2Base.load_state_dict', 'only model classes of sam2'),
                ('sam2.modeling.sam2_base', 'only model classes of sam2'),
                ('pipeline.segmenters.build_sam2.Path.write_text', 'only model classes of sam2'),
                ('pipeline.segmenters.build_sam2.load_weights', 'only model classes of sam2'),
                ('pipeline.segmenters.build_sam2.torch.nn.Linear', 'only model classes of sam2'),
                ('sam2.modeling.nowhere.Model', 'nowhere.Model, which does not exist'),
                ('sam2..load', 'which does not exist'),
            )
        ),
        ('other: 1', 'no mapping `model`'),
        ('model: [', 'model.yaml cannot be read as YAML: '),
        ('model: \x00', 'cannot be read as YAML: .*special characters'),
        ('model: ${nowhere}', 'cannot be read as YAML: .*nowhere'),
        ('- ' * 50_000, 'cannot be read as YAML: '),
        ('a: &a [x]\nb: [' + '*a, ' * 11 + ']', 'has more than 10 references'),
        ('model: {b: [' + '"${a}", ' * 11 + ']}', 'has more than 10 references'),
        (
            'model: {_target_: sam2.modeling.sam2_utils.MLP, depth: 1}',
            "model cannot be built: .*argument 'depth'",
        ),
        (
            'model: {_target_: sam2.modeling.sam2_utils.MLP, input_dim: 1, hidden_dim: 1, '
            'output_dim: 1, num_layers: 1}',
            'builds a MLP',
        ),
    ],
)
def test_bad_config_files_are_refused(tmp_path, text, message):
    path = tmp_path / 'model.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        build_sam2_model(path, None, 'cpu', dynamic_multimask=False)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no SAM 2 weights'):
        build_sam2_model(COMPACT, tmp_path / 'none.pt', 'cpu')
