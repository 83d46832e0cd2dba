"""Settings of the segmenter training, read from an MMEngine Python config of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.training.sam_data import AugmentConfig
from pipeline.training.sam_losses import LossWeights
from pipeline.training.sam_prompts import PromptConfig

_SECTIONS = {'augment': AugmentConfig, 'prompts': PromptConfig, 'losses': LossWeights}


@dataclass(frozen=True)
class SamTrainConfig:
    """Settings of `train_sam`.

    Attributes:
        model_config: Architecture: a YAML file or a config name of the `sam2` package.
        annotations: COCO JSON as `load_people` reads it.
        backgrounds: Folder of photos without people, or None.
        work_dir: Where `state.pt` (to resume), `best.pt` (weights) and the log are written.
        budget_minutes: Training time, evaluation left out. Learning rate and phases follow the
            share of it that is spent, so a run ends on time whatever the machine's speed.
        phases: (image side in px, share of the budget up to which it holds), the last up to 1.
        images_per_step: Photos per step, one number per phase; one encoder pass each.
        prompts_per_image: Prompted people per photo.
        max_corrections: Correction clicks after the first prompt, drawn per step from 0 to this.
        correction_prob: Steps that may have correction clicks at all.
        draw_prompts: Give the first prompts as a drawn mask too (`prompt_prior`); a small model
            trained for a short time hardly learns from prompt tokens alone.
        multimask_prob: First passes that train the three-mask output rather than the single one.
        learning_rate: Peak of the cosine schedule.
        min_lr_share: Learning rate at the end as a share of the peak.
        warmup_steps: Steps of linear warm-up.
        weight_decay: AdamW decay of matrices and kernels; biases, norms and embeddings have none.
        clip_norm: Largest gradient norm.
        dense_weight: Weight of the encoder's dense supervision (`DenseHeads`) beside the prompts.
        dense_share: Share of the budget, at the start, that trains the encoder by it alone.
        dense_images: Photos per step in that time.
        embedding_penalty: Weight of the image embedding's mean square beyond 1, per pixel.
        ema_decay: Decay per step of the averaged weights, which are evaluated and kept.
        evaluate_minutes: Training minutes between two evaluations; the state is saved there too.
        log_every: Steps between two log lines.
        threads: CPU threads.
        seed: Seed of weights, data and prompts.
        augment: Kinds of training images.
        prompts: Kinds of first prompts.
        losses: Weights of the loss parts.
    """

    model_config: str
    annotations: str
    backgrounds: str | None
    work_dir: str
    budget_minutes: float
    phases: tuple[tuple[int, float], ...] = ((256, 0.65), (384, 1.0))
    images_per_step: tuple[int, ...] = (4, 2)
    prompts_per_image: int = 3
    max_corrections: int = 2
    correction_prob: float = 1.0
    draw_prompts: bool = True
    multimask_prob: float = 0.3
    learning_rate: float = 8e-4
    min_lr_share: float = 0.01
    warmup_steps: int = 200
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    dense_weight: float = 0.0
    dense_share: float = 0.0
    dense_images: int = 16
    embedding_penalty: float = 0.2
    ema_decay: float = 0.998
    evaluate_minutes: float = 12.0
    log_every: int = 50
    threads: int = 1
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if self.budget_minutes <= 0:
            raise ValueError(f'budget_minutes is {self.budget_minutes}, must be above 0')
        shares = [share for _, share in self.phases]
        if not shares or shares != sorted(shares) or shares[-1] != 1.0:
            raise ValueError(f'phases is {self.phases}: shares must rise and end at 1.0')
        if len(self.images_per_step) != len(self.phases) or min(self.images_per_step) < 1:
            raise ValueError(
                f'images_per_step is {self.images_per_step}, must be {len(self.phases)} numbers '
                'from 1, one per phase'
            )
        if not 0 <= self.dense_share < 1 or (self.dense_share and not self.dense_weight):
            raise ValueError(
                f'dense_share is {self.dense_share}, must be in [0, 1), above 0 only with a '
                'dense_weight'
            )
        for name in ('prompts_per_image', 'threads', 'log_every', 'dense_images'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be 1 or more')


def load_train_config(path: Path) -> SamTrainConfig:
    """Reads a config file; a key that is no setting fails.

    Raises:
        ValueError: Unknown or missing settings, all named.
    """
    from mmengine.config import Config

    values: dict[str, Any] = dict(Config.fromfile(str(path)).to_dict())
    for name, section in _SECTIONS.items():
        if name in values:
            values[name] = section(**_checked(values[name], section, f'{path}: {name}'))
    if 'images_per_step' in values:
        values['images_per_step'] = tuple(values['images_per_step'])
    if 'phases' in values:
        values['phases'] = tuple((int(size), float(share)) for size, share in values['phases'])
    return SamTrainConfig(**_checked(values, SamTrainConfig, str(path)))


def _checked(values: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    allowed = {item.name for item in fields(kind)}
    unknown = sorted(set(values) - allowed)
    if unknown:
        raise ValueError(f'{where}: unknown {", ".join(unknown)}; allowed: {sorted(allowed)}')
    return dict(values)
