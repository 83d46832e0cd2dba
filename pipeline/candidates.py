"""All people that the loop found in an image, before the threshold on the score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .masks import Masks, stack_masks
from .structures import Floats, People


@dataclass(frozen=True, eq=False)
class Candidates:
    """People of any score, in descending order of score unless a protocol sets the order.

    Who wins a disputed pixel depends on the people that are kept. Each mask here has the pixels
    that the person wins against those before it, so the last of the kept masks that covers a
    pixel owns it.
    """

    people: People  # boxes before they are fitted to the masks
    exclusive: bool = False  # masks of the result do not overlap
    mask_boxes: bool = False  # boxes of the result enclose the masks
    # For the report: masks before overlaps were resolved, one per person; and the masks of the
    # people that were painted out before round 2, 3, ...
    raw_masks: Masks | None = None
    painted: tuple[Masks, ...] = ()

    def keep(self, min_score: float | None = None) -> People:
        """Build the result of the people with at least ``min_score``; None keeps all."""
        people = self.people
        if min_score is not None:
            people = people.select(people.scores >= min_score)
        if self.exclusive:
            people = replace(people, masks=stack_masks(people.masks))
        if self.mask_boxes:
            people = replace(people, boxes=_enclose(people))
        return people


def _enclose(people: People) -> Floats:
    """Boxes around the masks; the box of the person where its mask is empty."""
    areas = people.masks.areas[:, None]
    return np.where(areas > 0, people.masks.boxes, people.boxes).astype(np.float32)
