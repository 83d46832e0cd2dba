"""Number of classes of a detector, and which of them is the person.

The released detector config has COCO's 80 classes, but its training recipe has one. The count of an
RTMDet head is read from the weights: `bbox_head.rtm_cls.*.weight` has one output per class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.coco import find_person_names
from ..openmmlab import building_from
from ..weights.loading import load_state
from ..weights.manifest import CheckpointError

if TYPE_CHECKING:
    from mmengine.config import Config

UNNAMED = (1, 80)  # counts whose class 0 is the person: person-only detectors and COCO
_CLASS_LAYER = re.compile(r'bbox_head\.rtm_cls\.(\d+\.)?weight')


def fit_class_count(config: Config, checkpoint: Path) -> None:
    """Set ``num_classes`` of an RTMDet head to the count in the checkpoint, in place.

    Other heads are left unchanged.

    Args:
        config: Model config.
        checkpoint: Weight file.

    Raises:
        CheckpointError: The file cannot be read, or its layers disagree.
    """
    head = config.model.get('bbox_head')
    if not isinstance(head, dict) or not str(head.get('type')).startswith('RTMDet'):
        return
    weights, _ = load_state(checkpoint)
    counts = sorted({len(value) for key, value in weights.items() if _CLASS_LAYER.fullmatch(key)})
    if len(counts) > 1:
        raise CheckpointError(
            f'{checkpoint}: this detector has {" and ".join(map(str, counts))} classes; its layers '
            'must agree'
        )
    if counts:  # without class layers, the strict check of keys names the missing ones
        head['num_classes'] = counts[0]


def find_person_class(
    config: Config, meta: Mapping[str, Any], chosen: str | int | None, source: str
) -> int:
    """Find the label of people.

    Args:
        config: Model config, after `fit_class_count`.
        meta: Of the checkpoint. Its class names count, else those of the config.
        chosen: Name or number of the class; None: the one called person, else pedestrian, human or
            people; without names, 0 if there are 1 or 80 classes.
        source: Name of the config, for messages.

    Raises:
        CheckpointError: There is no such class.
    """
    count = _count(config.model)
    names = [name.strip().casefold() for name in class_names(meta) or _config_names(config, count)]
    facts = f'{count or "?"} classes ({", ".join(names[:100]) or "not named"})'
    if isinstance(chosen, int):
        found = [chosen] if 0 <= chosen < (count or len(names) or chosen + 1) else []
    elif chosen is not None:
        found = [i for i, name in enumerate(names) if name == chosen.strip().casefold()]
    elif names:
        found = find_person_names(names)
    else:
        found = [0] if count in (None, *UNNAMED) else []
    if len(found) != 1:
        wanted = 'the person' if chosen is None else repr(chosen)
        raise CheckpointError(
            f'{source}: {len(found) or "none"} of the {facts} of this detector is {wanted}; set '
            'detector.person_class to its name or number (from 0)'
        )
    return found[0]


def _count(model: Any) -> int | None:
    """Number of classes of the head in a model config."""
    for head in (model.get('bbox_head'), (model.get('roi_head') or {}).get('bbox_head')):
        last = head[-1] if isinstance(head, list) and head else head
        if isinstance(last, dict) and 'num_classes' in last:
            return int(last['num_classes'])
    return None


def _config_names(config: Config, count: int | None) -> tuple[str, ...]:
    """Class names in a config, if it has ``count`` of them."""
    sets = [(config.get(f'{part}_dataloader') or {}).get('dataset') or {} for part in
            ('test', 'val', 'train')]  # fmt: skip
    metas = [config.get('metainfo'), *(data.get('metainfo') for data in sets)]
    if count not in UNNAMED:  # the import takes seconds
        with building_from('mmdet'):
            import_module('mmdet.datasets')
            known = import_module('mmdet.registry').DATASETS
            kinds = [known.get(str(data.get('type'))) for data in sets if data.get('type')]
        metas += [getattr(kind, 'METAINFO', None) for kind in kinds]
    found = (class_names({'dataset_meta': meta}) for meta in metas if isinstance(meta, Mapping))
    return next((names for names in found if len(names) == count), ())


def class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return class names from the ``meta`` of a checkpoint (MMDetection 3 and 2); () if absent."""
    facts = meta.get('dataset_meta') or {}
    names = facts.get('classes') or facts.get('CLASSES') or meta.get('CLASSES') or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))
