"""What the batches tell on their way to the model: unreadable photos, and who was in them."""

from __future__ import annotations

import json
import logging
import os

from detectron2.utils import comm

from ..errors import CrackError
from ..files import atomic_write
from .stepping import Batch

logger = logging.getLogger("detectron2.crack_data.training")


class BatchWatch:
    """Counts unreadable photos and remembers the last batch's photos."""

    def __init__(self, max_bad_share: float) -> None:
        """Args: max_bad_share: CRACK.MAX_BAD_PHOTOS."""
        self.photos = 0  # in the training set; whoever builds the loader knows
        self.max_bad_share = max_bad_share
        self.bad: dict[str, str] = {}
        self.last: list[dict[str, str]] = []

    def __call__(self, batch: Batch) -> Batch:
        """Note what the batch says and pass it on.

        Raises:
            CrackError: more of the photos cannot be read than CRACK.MAX_BAD_PHOTOS allows.
        """
        for sample in batch:
            for name, reason in sample.get("skipped", ()):
                self._note(name, reason)
        readable = [sample for sample in batch if "image" in sample]
        if not readable:
            raise CrackError(self._sentence("no photo of a whole batch can be read"))
        self.last = [
            {key: str(sample[key]) for key in ("image_id", "file_name", "dataset_name")}
            for sample in readable
            if "dataset_name" in sample
        ]
        return readable

    def report(self, folder: str, iteration: int, losses: str) -> str:
        """Write the photos of a batch whose loss is not finite into ``folder``.

        Returns:
            what to tell the user.
        """
        path = os.path.join(folder, f"bad_batch_{comm.get_rank()}.json")
        content = {"iteration": iteration, "losses": losses, "photos": self.last}
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode())
        return (
            f"the loss became infinite or NaN at iteration {iteration}; {path} names the photos of "
            "that batch; look at them or lower SOLVER.BASE_LR, then go on with --resume"
        )

    def _note(self, name: str, reason: str) -> None:
        if name in self.bad:
            return
        self.bad[name] = reason
        logger.warning(f"skipped photo {name}: it {reason} ({len(self.bad)} skipped so far)")
        if len(self.bad) > self.max_bad_share * self.photos:
            share = f"{len(self.bad)} of {self.photos} photos cannot be read"
            raise CrackError(self._sentence(share))

    def _sentence(self, what: str) -> str:
        first = next(iter(self.bad), "none named")
        return (
            f"{what}, the first: {first}; mend or remove them, or allow more with "
            f"CRACK.MAX_BAD_PHOTOS (now {self.max_bad_share})"
        )
