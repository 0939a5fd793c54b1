"""The crack pixels of a binary mask as vertical runs, many times fewer than the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .components import ByteMask, Labels

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Runs:
    """Vertical runs of crack pixels, as arrays of one number per run.

    Attributes:
        columns, rows: of a run's first pixel, px.
        lengths: px.
        owners: label of the component or instance that the run belongs to.
    """

    columns: Numbers
    rows: Numbers
    lengths: Numbers
    owners: Numbers

    @classmethod
    def none(cls) -> Runs:
        """No runs."""
        return cls(*[np.zeros(0, np.int64)] * 4)

    @classmethod
    def of(cls, mask: ByteMask, labels: Labels | None = None) -> Runs:
        """The runs of a mask, HxW of 0 and 1, column by column.

        Args:
            labels: HxW, no two of them in one run; without it, all runs belong to 1.
        """
        padded = cv2.copyMakeBorder(mask, 1, 1, 0, 0, cv2.BORDER_CONSTANT)
        flat = cv2.transpose(padded).ravel().view(np.bool_)
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        columns, rows = np.divmod(edges[::2], len(padded))
        if labels is None:
            owners = np.ones(len(rows), np.int64)
        else:
            owners = labels.ravel().take(rows * mask.shape[1] + columns)
        return cls(columns, rows, edges[1::2] - edges[::2], owners)

    def select(self, chosen: Numbers) -> Runs:
        """The runs with these indices, or where a mask of one flag per run is set."""
        arrays = (self.columns, self.rows, self.lengths, self.owners)
        return Runs(*(values[chosen] for values in arrays))

    def renumbered(self, numbers: Numbers) -> Runs:
        """The runs with ``numbers[i]`` for owner i, sorted by owner, then column by column.

        Those of owners whose number is 0 are left out.
        """
        owners = numbers[self.owners]
        order = np.argsort(owners, kind="stable")
        dropped = len(owners) - int(np.count_nonzero(owners))
        found = Runs(self.columns, self.rows, self.lengths, owners)
        return found.select(order[dropped:])

    def pixels(self, width: int) -> Numbers:
        """Indices of all their pixels in a flattened mask that is ``width`` px wide."""
        ends = np.cumsum(self.lengths)
        first = self.rows * width + self.columns - (ends - self.lengths) * width
        return np.repeat(first, self.lengths) + np.arange(self.lengths.sum()) * width

    def paint(self, shape: tuple[int, ...]) -> Labels:
        """A label map, HxW, 0 for background, with the owner of each run."""
        labels = np.zeros(shape, np.int32)
        labels.ravel()[self.pixels(shape[-1])] = np.repeat(self.owners, self.lengths)
        return labels
