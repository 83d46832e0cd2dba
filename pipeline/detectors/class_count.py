"""Set the number of classes of an RTMDet head from its checkpoint.

The released detector config has COCO's 80 classes, but its training recipe has one. The count is
read from the weights: `bbox_head.rtm_cls.*.weight` has one output per class.
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
    """Set ``num_classes`` of an RTMDet head to the count in the checkpoint, in place.

    Other heads are left unchanged. Two counts may differ from the config: 80 (COCO) and 1 (person).
    Class 0 is the person in both.

    Args:
        config: Model config.
        checkpoint: Weight file.

    Raises:
        CheckpointError: The file cannot be read, or its count is neither the config's, 80, nor 1.
    """
    head = config.model.get('bbox_head')
    if not isinstance(head, dict) or not str(head.get('type')).startswith('RTMDet'):
        return
    weights, meta = load_state(checkpoint)
    expected = head['num_classes']
    counts = sorted({len(value) for key, value in weights.items() if _CLASS_LAYER.fullmatch(key)})
    if counts in ([], [expected]):
        return  # without class layers, the strict check of keys names the missing ones
    if counts not in ([PERSON_ONLY], [COCO]):
        raise CheckpointError(
            f'{checkpoint}: this detector has {" and ".join(map(str, counts))} classes '
            f'({", ".join(class_names(meta)) or "the file does not name them"}), its config '
            f'{expected}. Only {COCO} (COCO) and {PERSON_ONLY} (person) are adopted '
            'automatically: use another checkpoint, or a config with that bbox_head.num_classes '
            'and the person as class 0'
        )
    head['num_classes'] = counts[0]


def class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return class names from the ``meta`` of a checkpoint (MMDetection 3 and 2); () if absent."""
    facts = meta.get('dataset_meta') or {}
    names = facts.get('classes') or facts.get('CLASSES') or meta.get('CLASSES') or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))
