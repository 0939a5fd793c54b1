"""The crack map proposes too: the boxes of its components join those of the RPN.

In training they are the false alarms that the box head has to learn to reject; at prediction they
are boxes that fit a thin crack better than any anchor.
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances

from .claim import find_components

# At most this many a photo, the most confident.
_MAX_PROPOSALS = 50
# Objectness of a proposal that nobody ranks below the RPN's own.
_SURE = 10.0


def add_map_proposals(
    proposals: list[Instances], logits: torch.Tensor, link_threshold: float
) -> list[Instances]:
    """Append the components of each photo's crack map to its proposals.

    Args:
        proposals: of each photo, with proposal_boxes and objectness_logits.
        logits: crack logits, (N, H, W), padded to one size.
        link_threshold: see `find_components`.
    """
    probabilities = logits.detach().float().sigmoid().cpu().numpy()
    joined = []
    for given, probability in zip(proposals, probabilities, strict=True):
        height, width = given.image_size
        found = find_components(probability[:height, :width], link_threshold)
        best = (-found.confidence).argsort(kind="stable")[:_MAX_PROPOSALS]
        added = Instances(given.image_size)
        boxes = torch.from_numpy(found.boxes[best]).to(given.proposal_boxes.tensor)
        added.proposal_boxes = Boxes(boxes)
        added.objectness_logits = given.objectness_logits.new_full((len(best),), _SURE)
        joined.append(Instances.cat([given, added]))
    return joined
