"""Scale, rotation, flips and crop of a photo and its crack mask, in one warp each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# What the models' pixel mean makes zero, like the padding of a batch.
MEAN_BGR = (104.0, 116.0, 124.0)


@dataclass(frozen=True)
class CropPlan:
    """One draw of the geometry.

    Attributes:
        scale: factor on the photo's size.
        degrees: rotation about the crop's centre, counter-clockwise.
        turns: quarter turns, 0 to 3.
        flip: mirror left and right.
        centre: (x, y) of the crop's centre in the photo, px.
        size: side of the square crop, px.
        reflect: fill what lies outside the photo with its mirror image, else with `MEAN_BGR`.
    """

    scale: float
    degrees: float
    turns: int
    flip: bool
    centre: tuple[float, float]
    size: int
    reflect: bool

    def matrix(self) -> np.ndarray:
        """The 2x3 affine map from photo to crop pixels."""
        angle = np.deg2rad(self.degrees + 90 * self.turns)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        linear = np.array([[cos, sin], [-sin, cos]])
        if self.flip:
            linear[0] *= -1
        middle = np.full(2, (self.size - 1) / 2)
        return np.column_stack([linear, middle - linear @ np.array(self.centre)])


def crop_photo(image: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the crop out of a (H, W, 3) uint8 photo: (size, size, 3)."""
    image, matrix = _shrink(image, plan)
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_CONSTANT
    return _warp(image, matrix, plan.size, border, MEAN_BGR)


def crop_mask(mask: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) uint8 mask of 0 and 1.

    Returns:
        (size, size) uint8, how much of each pixel is crack, 0 to 255.
    """
    soft, matrix = _shrink(mask * np.uint8(255), plan)
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_CONSTANT
    return _warp(soft, matrix, plan.size, border, 0.0)


def crop_labels(labels: np.ndarray, plan: CropPlan) -> np.ndarray:
    """Cut the same crop out of a (H, W) int16 label map: for each pixel the nearest label.

    Returns:
        (size, size) int16 without background: `crop_mask` says which pixels are crack.
    """
    if labels.max() == labels[labels > 0].min(initial=labels.max()):
        return np.full((plan.size, plan.size), labels.max(), np.int16)
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, np.int16)
    table[nearest[labels > 0]] = labels[labels > 0]
    border = cv2.BORDER_REFLECT_101 if plan.reflect else cv2.BORDER_REPLICATE
    return cv2.warpAffine(
        table[nearest],
        plan.matrix(),
        (plan.size, plan.size),
        flags=cv2.INTER_NEAREST,
        borderMode=border,
    )


def _shrink(image: np.ndarray, plan: CropPlan) -> tuple[np.ndarray, np.ndarray]:
    """Average pixels before a warp that makes the photo smaller: a warp alone would skip some."""
    matrix = plan.matrix()
    if plan.scale >= 0.9:
        return image, matrix
    height, width = image.shape[:2]
    size = (max(1, round(width * plan.scale)), max(1, round(height * plan.scale)))
    ratio = np.array([size[0] / width, size[1] / height])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    linear = matrix[:, :2] / ratio
    # Pixel centres: photo x = (small x + 0.5) / ratio - 0.5.
    shift = matrix[:, 2] + matrix[:, :2] @ (0.5 / ratio - 0.5)
    return small, np.column_stack([linear, shift])


def _warp(
    image: np.ndarray, matrix: np.ndarray, size: int, border: int, fill: float | tuple[float, ...]
) -> np.ndarray:
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
    )
