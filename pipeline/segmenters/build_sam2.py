"""Build a stock SAM 2 model from its YAML config, without Hydra's global state."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.resources import ROOT
from pipeline.segmenters.sam2_package import import_sam2
from pipeline.values import check_range, in_line
from pipeline.weights.loading import load_into, load_state

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from sam2.modeling.sam2_base import SAM2Base

_BUILDABLE = ('sam2.', 'pipeline.segmenters.')
_MAX_REFERENCES = 10  # each copies what it names, so a short file of many can fill the memory


# Set by the stock builder: the best of three masks replaces an unstable single one. Stability is
# the IoU of the masks thresholded at + and - delta logits.
POSTPROCESSING = {
    'dynamic_multimask_via_stability': True,
    'dynamic_multimask_stability_delta': 0.05,
    'dynamic_multimask_stability_thresh': 0.98,
}


def build_sam2_model(
    config: str | Path,
    checkpoint: Path | None,
    device: str,
    *,
    dynamic_multimask: bool = True,
    image_size: int | None = None,
    ignorable: tuple[str, ...] = (),
) -> SAM2Base:
    """Build a SAM 2 model in evaluation mode.

    Args:
        config: Path of a YAML file in the layout of the `sam2` package, or the name of a config
            inside that package: 'configs/sam2.1/sam2.1_hiera_b+.yaml' or 'sam2.1_hiera_b+'.
        checkpoint: File with the weights under the key `model` (float16 is cast to float32); None:
            random weights.
        device: Torch device name.
        dynamic_multimask: Apply `POSTPROCESSING`; False always keeps the single mask.
        image_size: Replaces the input side of the config in px; a multiple of 32.
        ignorable: Prefixes of checkpoint keys that may be absent, left over or of another shape.

    Raises:
        FileNotFoundError: No such config or checkpoint; lists the names in the package.
        ValueError: The config cannot be read or built, names a class outside `sam2` and this
            package, or belongs to the reference's copy of `sam2`.
        CheckpointError: The file cannot be read, or the weights do not fit exactly.
    """
    import_sam2()
    from sam2.modeling.sam2_base import SAM2Base

    if image_size is not None:
        check_range('image_size', image_size, 'a positive multiple of 32')
    model_config = load_model_config(config)
    try:
        model = _instantiate(model_config, dynamic_multimask, image_size)
    except Exception as error:  # of Hydra, or of a class with these arguments
        cause = in_line(error.__cause__ or error)
        raise ValueError(f'{config}: the model cannot be built: {cause}') from error
    if not isinstance(model, SAM2Base):
        raise ValueError(f'{config} builds a {type(model).__name__}, expected a SAM2Base')
    if checkpoint is not None:
        load_weights(model, checkpoint, ignorable)
    return model.to(device).eval()


def _instantiate(
    model_config: DictConfig, dynamic_multimask: bool, image_size: int | None
) -> object:
    from hydra.utils import instantiate

    if dynamic_multimask:
        extra = model_config.get('sam_mask_decoder_extra_args') or {}
        model_config.sam_mask_decoder_extra_args = {**extra, **POSTPROCESSING}
    if image_size is not None:
        model_config.image_size = image_size
    return instantiate(model_config, _recursive_=True)


def at_image_size(model: SAM2Base, image_size: int) -> SAM2Base:
    """Create a model with another image size that shares the weights of `model`.

    Raises:
        ValueError: `image_size` is not a positive multiple of 32.
    """
    check_range('image_size', image_size, 'a positive multiple of 32')
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other = deepcopy(model, shared)
    side = image_size // int(model.backbone_stride)
    other.image_size, other.sam_image_embedding_size = image_size, side
    prompts = other.sam_prompt_encoder
    prompts.input_image_size, prompts.image_embedding_size = (image_size,) * 2, (side, side)
    prompts.mask_input_size = (4 * side, 4 * side)
    return other


def load_model_config(config: str | Path) -> DictConfig:
    """Read the `model` section of a config file or of a config in the `sam2` package."""
    from omegaconf import DictConfig, OmegaConf

    loaded = None
    try:
        text = _read_text(config)
        if len(re.findall(r'\$\{|\*\w', text)) <= _MAX_REFERENCES:
            loaded = OmegaConf.create(text)
            OmegaConf.resolve(loaded)
    except FileNotFoundError:
        raise
    except Exception as error:  # of the file, YAML and OmegaConf
        raise ValueError(f'{config} cannot be read as YAML: {in_line(error)}') from error
    if loaded is None:
        raise ValueError(f'{config} has more than {_MAX_REFERENCES} references (${{name}}, *name)')
    if not isinstance(loaded, DictConfig) or not isinstance(loaded.get('model'), DictConfig):
        raise ValueError(f'{config} has no mapping `model` at its top level')
    if 'n_kpts_encoder' in loaded.model:
        raise ValueError(
            f'{config} sets n_kpts_encoder, a flag of the copy of sam2 inside BBoxMaskPose, which '
            "never reads it. Its weights load into the stock model: config='sam2.1_hiera_b+'"
        )
    for target in _targets(OmegaConf.to_container(loaded.model)):
        _check_class(config, target)
    model_config: DictConfig = loaded.model
    return model_config


def _read_text(config: str | Path) -> str:
    for path in (Path(config), ROOT / config):
        if path.is_file():
            return path.read_text('utf-8')
    from pipeline.segmenters.sam2_configs import read_packaged_config

    return read_packaged_config(str(config))


def load_weights(model: torch.nn.Module, checkpoint: Path, ignorable: tuple[str, ...] = ()) -> None:
    """Load the weights under `model` in a checkpoint file; every key and shape must match.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Not readable; or weights are missing, unexpected or of another shape.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'no SAM 2 weights at {checkpoint}; see docs/user_guide/weights.md')
    weights, _ = load_state(checkpoint, key='model')
    load_into(model, weights, checkpoint, ignorable)


def _check_class(config: str | Path, target: str) -> None:
    """Check that a target is a module class of a buildable package; a config can name any callable.

    A prefix alone is not enough: `sam2.build_sam.torch.load` is a function of torch.

    Raises:
        ValueError: It is something else.
    """
    from hydra.utils import get_object

    found = None
    if target.startswith(_BUILDABLE):
        try:
            found = get_object(target)
        except Exception as error:  # errors of the modules on the way, and of Hydra
            raise ValueError(
                f'{config} names the class {in_line(target)}, which does not exist'
            ) from error
    is_module = isinstance(found, type) and issubclass(found, torch.nn.Module)
    if not is_module or not getattr(found, '__module__', '').startswith(_BUILDABLE):
        raise ValueError(
            f'{config} names the class {in_line(target)}; only model classes of sam2 and of '
            'pipeline.segmenters can be built'
        )


def _targets(node: object) -> list[str]:
    """Collect all values of `_target_` in a nested config."""
    if isinstance(node, list):
        return [target for item in node for target in _targets(item)]
    if not isinstance(node, dict):
        return []
    targets = [str(node['_target_'])] if '_target_' in node else []
    return targets + [target for value in node.values() for target in _targets(value)]
