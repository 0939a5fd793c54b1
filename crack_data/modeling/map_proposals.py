"""The crack map proposes too: the boxes of its components join those of the RPN.

In training they are the false alarms that the box head has to learn to reject; at prediction they
are boxes that fit a thin crack better than any anchor.
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances

from .instances import Components, find_components

# At most this many a photo, the most confident.
_MAX_PROPOSALS = 50
# Objectness of a proposal that nobody ranks below the RPN's own.
_SURE = 10.0


def add_map_proposals(
    proposals: list[Instances], logits: torch.Tensor, link_threshold: float, link_gap: float
) -> list[Instances]:
    """Append the components of each photo's crack map to its proposals.

    Args:
        proposals: of each photo, with proposal_boxes and objectness_logits.
        logits: crack logits, (N, H, W), padded to one size.
        link_threshold, link_gap: see `find_components`.
    """
    probabilities = logits.detach().float().sigmoid().cpu().numpy()
    joined = []
    for given, probability in zip(proposals, probabilities, strict=True):
        height, width = given.image_size
        found = find_components(probability[:height, :width], link_threshold, link_gap)
        joined.append(join_components(given, found))
    return joined


def join_components(proposals: Instances, found: Components) -> Instances:
    """Append the components of one photo's crack map to its proposals."""
    best = (-found.confidence).argsort(kind="stable")[:_MAX_PROPOSALS]
    added = Instances(proposals.image_size)
    added.proposal_boxes = Boxes(
        torch.from_numpy(found.boxes[best]).to(proposals.proposal_boxes.tensor)
    )
    added.objectness_logits = proposals.objectness_logits.new_full((len(best),), _SURE)
    return Instances.cat([proposals, added])
