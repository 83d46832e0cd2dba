"""Values of the body parts in the part map of a canvas."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """Body parts; the value of a right limb follows that of the left one."""

    TORSO = 1
    PELVIS = 2
    NECK = 3
    HEAD = 4
    HAIR = 5
    HAT = 6
    BAG = 7
    EAR_LEFT = 8
    EAR_RIGHT = 9
    UPPER_ARM_LEFT = 10
    UPPER_ARM_RIGHT = 11
    FOREARM_LEFT = 12
    FOREARM_RIGHT = 13
    HAND_LEFT = 14
    HAND_RIGHT = 15
    THIGH_LEFT = 16
    THIGH_RIGHT = 17
    SHIN_LEFT = 18
    SHIN_RIGHT = 19
    FOOT_LEFT = 20
    FOOT_RIGHT = 21
    # Objects drawn with a person, such as a seat.
    PROP = 255

    def of_side(self, side: int) -> Part:
        """Return this left part for side 0, and the right part for side 1."""
        return Part(self + side)


# Parts that can be drawn at each visible COCO keypoint.
KEYPOINT_PARTS: tuple[tuple[Part, ...], ...] = (
    (Part.HEAD,), (Part.HEAD,), (Part.HEAD,), (Part.EAR_LEFT,), (Part.EAR_RIGHT,),
    (Part.TORSO, Part.UPPER_ARM_LEFT), (Part.TORSO, Part.UPPER_ARM_RIGHT),
    (Part.UPPER_ARM_LEFT, Part.FOREARM_LEFT), (Part.UPPER_ARM_RIGHT, Part.FOREARM_RIGHT),
    (Part.FOREARM_LEFT, Part.HAND_LEFT), (Part.FOREARM_RIGHT, Part.HAND_RIGHT),
    (Part.TORSO, Part.PELVIS, Part.THIGH_LEFT), (Part.TORSO, Part.PELVIS, Part.THIGH_RIGHT),
    (Part.THIGH_LEFT, Part.SHIN_LEFT), (Part.THIGH_RIGHT, Part.SHIN_RIGHT),
    (Part.SHIN_LEFT, Part.FOOT_LEFT), (Part.SHIN_RIGHT, Part.FOOT_RIGHT),
)  # fmt: skip
# Parts of the trunk, which do not determine the visible side of the body.
TRUNK = (Part.TORSO, Part.PELVIS)
