"""Load for locust: users that post photos, as fast as they can or at a given rate.

The folder of photos, the query, and the requests per second of one user (0: as fast as it can)
come in the environment variables TRIAL_PHOTOS, TRIAL_QUERY and TRIAL_RATE.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, cast

from locust import FastHttpUser, constant, constant_throughput, task

PHOTOS = [path.read_bytes() for path in sorted(Path(os.environ["TRIAL_PHOTOS"]).iterdir())]
RATE = float(os.environ["TRIAL_RATE"])


class PhotoUser(FastHttpUser):
    """Posts a photo, waits for the answer, and posts the next."""

    wait_time = constant_throughput(RATE) if RATE else constant(0)

    @task
    def predict(self) -> None:
        """Post a random photo."""
        self.client.request(
            "POST",
            f"/predict{os.environ['TRIAL_QUERY']}",
            name="predict",
            data=cast(Any, random.choice(PHOTOS)),  # bytes are fine, whatever its types say
            headers={"Content-Type": "image/jpeg"},
        )
