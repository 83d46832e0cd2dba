"""An RTMDet head with as many classes as its checkpoint tells apart.

The released detector is configured with COCO's 80 classes while its training recipe has one, so
the count is read from the weights: `bbox_head.rtm_cls.*.weight` has one output per class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights.loading import load_state
from ..weights.manifest import CheckpointError

if TYPE_CHECKING:
    from mmengine.config import Config

PERSON_ONLY, COCO = 1, 80
_CLASS_LAYER = re.compile(r'bbox_head\.rtm_cls\.(\d+\.)?weight')


def fit_class_count(config: Config, checkpoint: Path) -> None:
    """Sets ``num_classes`` of an RTMDet head to what the checkpoint holds; others are left alone.

    A count other than the config's is taken over when its meaning is known: COCO's 80 classes or
    the person alone, class 0 being the person in both.

    Args:
        config: of the model, changed in place.
        checkpoint: file of weights.

    Raises:
        CheckpointError: the file cannot be read, or has another count than the config.
    """
    head = config.model.get('bbox_head')
    if not isinstance(head, dict) or not str(head.get('type')).startswith('RTMDet'):
        return
    weights, meta = load_state(checkpoint)
    expected = head['num_classes']
    counts = sorted({len(value) for key, value in weights.items() if _CLASS_LAYER.fullmatch(key)})
    if counts in ([], [expected]):
        return  # without class layers the strict check of keys says what is wrong
    if counts not in ([PERSON_ONLY], [COCO]):
        raise CheckpointError(
            f'{checkpoint}: this detector tells {" and ".join(map(str, counts))} classes apart '
            f'({", ".join(class_names(meta)) or "the file does not name them"}), its config '
            f'{expected}. Only {COCO} (COCO) and {PERSON_ONLY} (person) are taken over by '
            'themselves: name another checkpoint, or a config with that bbox_head.num_classes and '
            'the person as class 0'
        )
    head['num_classes'] = counts[0]


def class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes in the ``meta`` of a checkpoint (MMDetection 3 and 2); () if absent."""
    facts = meta.get('dataset_meta') or {}
    names = facts.get('classes') or facts.get('CLASSES') or meta.get('CLASSES') or ()
    return (names,) if isinstance(names, str) else tuple(names)
