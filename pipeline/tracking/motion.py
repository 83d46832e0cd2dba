"""Constant-velocity Kalman filter of boxes, for all tracks at once.

Lengths are relative to the height of each person, so that the same noise fits every size. The four
coordinates of a box share one covariance (position, velocity), because their noise is equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .config import MotionConfig as MotionConfig

Array = npt.NDArray[np.float64]


class MotionModel:
    """State of T tracks.

    Attributes:
        boxes: (T, 4) xyxy px, the current estimate.
        velocities: (T, 4) px a second.
        covariances: (T, 2, 2) of position and velocity in body heights.
    """

    def __init__(self, config: MotionConfig) -> None:
        self.config = config
        self.boxes: Array = np.zeros((0, 4))
        self.velocities: Array = np.zeros((0, 4))
        self.covariances: Array = np.zeros((0, 2, 2))

    def add(self, boxes: npt.NDArray[np.float32]) -> None:
        """Append tracks at boxes (N, 4) with unknown velocity."""
        start = np.diag([self.config.position_noise**2, self.config.speed**2])
        self.boxes = np.concatenate([self.boxes, boxes])
        self.velocities = np.concatenate([self.velocities, np.zeros((len(boxes), 4))])
        self.covariances = np.concatenate([self.covariances, np.tile(start, (len(boxes), 1, 1))])

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Drop all other tracks."""
        self.boxes, self.velocities = self.boxes[rows], self.velocities[rows]
        self.covariances = self.covariances[rows]

    def predict(self, seconds: float, unseen: npt.NDArray[np.bool_]) -> None:
        """Move all tracks on by a time; the speed of ``unseen`` (T,) tracks decays."""
        decay = np.where(unseen, np.exp(-seconds / self.config.decay_seconds), 1.0)[:, None]
        # A hidden person's size is that of the last detection.
        center_velocity = (self.velocities[:, :2] + self.velocities[:, 2:]) / 2
        hidden = np.tile(center_velocity, 2) * decay
        self.velocities = np.where(unseen[:, None], hidden, self.velocities)
        self.boxes = self.boxes + self.velocities * seconds
        step = np.array([[1, seconds], [0, 1]])
        q = self.config.acceleration**2 * seconds
        noise = q * np.array([[seconds**2 / 3, seconds / 2], [seconds / 2, 1]])
        self.covariances = step @ self.covariances @ step.T + noise

    def update(
        self, rows: npt.NDArray[np.int64], boxes: npt.NDArray[np.float32], doubt: Array
    ) -> None:
        """Correct tracks ``rows`` (M,) with boxes (M, 4) of ``doubt`` (M,) times the noise."""
        covariance = self.covariances[rows]
        total = covariance[:, 0, 0] + (doubt * self.config.position_noise) ** 2
        gain = covariance[:, :, 0] / total[:, None]
        error = boxes - self.boxes[rows]
        self.boxes[rows] += gain[:, [0]] * error
        self.velocities[rows] += gain[:, [1]] * error
        self.covariances[rows] = covariance - gain[:, :, None] * covariance[:, [0], :]

    def warp(self, transform: Array) -> None:
        """Apply a camera motion, an affine (2, 3) matrix from the last frame to this one."""
        linear, shift = transform[:, :2], transform[:, 2]
        self.boxes = (self.boxes.reshape(-1, 2, 2) @ linear.T + shift).reshape(-1, 4)
        self.velocities = (self.velocities.reshape(-1, 2, 2) @ linear.T).reshape(-1, 4)
