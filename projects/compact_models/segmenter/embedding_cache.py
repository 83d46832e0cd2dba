"""Image embeddings on disk: with a frozen image encoder each image is encoded once.

Worth it where no augmentation changes the image. The size is reported before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor, nn

from pipeline.segmenters.sam2_forward import ImageEmbedding
from pipeline.training.pose2seg.transforms import LoadPoseImage, PackPromptedPoses

Embed = Callable[[Tensor], ImageEmbedding]
_GB = 1e9
UNCHANGING = (LoadPoseImage, PackPromptedPoses)
# Weights that an embedding depends on.
_SOURCES = ('image_encoder.', 'no_mem_embed', 'sam_mask_decoder.conv_s')


def encoder_key(sam: nn.Module, image_size: int, encoder_config: str) -> str:
    """Hash of everything that decides on an embedding, beside the image.

    Args:
        sam: a SAM 2 model.
        image_size: side of its square in px.
        encoder_config: architecture of the image encoder, as text.
    """
    digest = hashlib.sha256(f'{image_size} {encoder_config}'.encode())
    for name, value in sorted(sam.state_dict().items()):
        if name.startswith(_SOURCES):
            digest.update(f'{name} {tuple(value.shape)}'.encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:20]


class EmbeddingCache:
    """Embeddings of images as float16 files, filled as the images come.

    Args:
        folder: for one state of the encoder, see `encoder_key`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, image: str) -> Path:
        """File of an image; another one once the image is changed."""
        facts = os.stat(image)
        text = f'{Path(image).resolve()} {facts.st_size} {facts.st_mtime_ns}'
        return self.folder / f'{hashlib.sha256(text.encode()).hexdigest()[:24]}.pt'

    def get(self, paths: Sequence[str], images: Tensor, embed: Embed) -> ImageEmbedding:
        """Embeddings of a batch, those that are absent computed and stored.

        Args:
            paths: of the images, B.
            images: as the encoder takes them, (B, 3, S, S).
            embed: the encoder.
        """
        rows = [self._read(path, images.device) for path in paths]
        absent = [i for i, row in enumerate(rows) if row is None]
        if absent:
            with torch.no_grad():
                new = embed(images[absent])
            levels = (new.image_embed, *new.high_res_feats)
            for place, row in enumerate(absent):
                # Stored precision from the first time on: a resumed run sees the same numbers.
                stored = [level[place].half() for level in levels]
                self._write(paths[row], [level.cpu().clone() for level in stored])
                rows[row] = [level.float() for level in stored]
        first, *rest = [torch.stack(level) for level in zip(*[r for r in rows if r], strict=True)]
        return ImageEmbedding(first, tuple(rest))

    def _read(self, image: str, device: torch.device) -> list[Tensor] | None:
        path = self.path(image)
        if not path.is_file():
            return None
        stored = torch.load(path, map_location=device, weights_only=True)
        return [level.float() for level in stored]

    def _write(self, image: str, levels: list[Tensor]) -> None:
        path = self.path(image)
        partial = path.with_suffix(f'.{os.getpid()}.partial')
        torch.save(levels, partial)
        os.replace(partial, path)


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class EmbeddingCacheHook(Hook):  # type: ignore[misc,unused-ignore]
    """Opens the cache of `CompactSam(cache_embeddings=True)` before training.

    Args:
        folder: where the embeddings go; one folder inside per state of the encoder.
        max_gb: a larger cache is refused.

    Raises:
        ValueError: (before training) the cache would be larger than `max_gb` or than the free
            space of the disk, a transform changes the images, or the model does not ask for it.
    """

    def __init__(self, folder: str, max_gb: float = 20.0) -> None:
        self.folder = Path(folder)
        self.max_gb = max_gb

    def before_train(self, runner: Any) -> None:
        """Report and check the size, and set the cache of the model."""
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        if not model.cache_embeddings:
            raise ValueError('EmbeddingCacheHook: set cache_embeddings=True in the model')
        datasets = inner_datasets(runner.train_dataloader.dataset)
        for dataset in datasets:
            refuse_augmentation(dataset.pipeline.transforms)
        count = sum(len(dataset) for dataset in datasets)
        folder = self.folder / encoder_key(model.sam, model.image_size, model.encoder_config)
        stored = sum(file.stat().st_size for file in folder.glob('*.pt')) if folder.is_dir() else 0
        size = embedding_bytes(model)
        wanted = count * size
        text = (
            f'image embeddings: {count} images of {size / 1e6:.2f} MB, '
            f'{wanted / _GB:.2f} GB in {folder} ({stored / _GB:.2f} GB of it there)'
        )
        if wanted > self.max_gb * _GB:
            raise ValueError(
                f'{text}: more than max_gb = {self.max_gb}; raise it, or train without a cache'
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if wanted - stored > free:
            raise ValueError(f'{text}: only {free / _GB:.2f} GB are free')
        print_log(text, logger='current')
        model.cache = EmbeddingCache(folder)


def embedding_bytes(model: Any) -> int:
    """Size of one stored embedding in bytes, measured on an empty image."""
    from pipeline.segmenters.sam2_forward import embed_images

    side = model.image_size
    device = next(model.sam.parameters()).device
    with torch.no_grad():
        embedding = embed_images(model.sam, torch.zeros(1, 3, side, side, device=device))
    levels = (embedding.image_embed, *embedding.high_res_feats)
    buffer = io.BytesIO()
    torch.save([level[0].half().cpu().clone() for level in levels], buffer)
    return buffer.tell()


def inner_datasets(dataset: Any) -> list[Any]:
    """The data sets inside wrappers that join, repeat or seed them, each once."""
    if 'datasets' in vars(dataset):
        return [inner for part in dataset.datasets for inner in inner_datasets(part)]
    if 'dataset' in vars(dataset):
        return inner_datasets(dataset.dataset)
    return [dataset]


def refuse_augmentation(transforms: Sequence[Any]) -> None:
    """Raises ValueError if a transform changes the image."""
    changing = [type(t).__name__ for t in transforms if not isinstance(t, UNCHANGING)]
    if changing:
        raise ValueError(
            f'stored embeddings are of unchanged images, but the pipeline has {", ".join(changing)}'
        )
