"""The crack map proposes too: the boxes of its cracks join those of the RPN.

In training they are the false alarms that the box head has to learn to reject; at prediction they
are boxes that fit a thin crack better than any anchor.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from .instances import Components, find_components

# At most this many a photo, the most confident.
_MAX_PROPOSALS = 50
# Ranks these proposals above the RPN's own.
_OBJECTNESS_LOGIT = 10.0


def add_map_proposals(
    proposals: list[Instances], probabilities: np.ndarray, link_threshold: float, link_gap: float
) -> tuple[list[Instances], list[Components]]:
    """Append the cracks of each photo's crack map to its proposals; return both.

    Args:
        proposals: of each photo, with proposal_boxes and objectness_logits.
        probabilities: crack maps, (N, H, W) uint8, x 255, padded to one size.
        link_threshold, link_gap: see `find_components`.
    """
    joined, components = [], []
    for given, probability in zip(proposals, probabilities, strict=True):
        height, width = given.image_size
        found = find_components(probability[:height, :width], link_threshold, link_gap)
        best = (-found.confidence).argsort(kind="stable")[:_MAX_PROPOSALS]
        boxes = torch.from_numpy(found.boxes[best]).to(given.proposal_boxes.tensor)
        added = Instances(given.image_size)
        added.proposal_boxes = Boxes(boxes)
        added.objectness_logits = given.objectness_logits.new_full((len(best),), _OBJECTNESS_LOGIT)
        joined.append(Instances.cat([given, added]))
        components.append(found)
    return joined, components
