"""Which split a photo goes to: decided by a hash of its group, so that it stays there.

The same group gets the same split in every set converted with the same seed and shares, and new
photos never move old ones.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CrackError


@dataclass(frozen=True)
class SplitOptions:
    """Named shares that sum to 1, a seed, and the pattern that says which photos go together.

    Attributes:
        shares: e.g. {"train": 0.8, "val": 0.2}; empty means one JSON with all photos.
        seed: another seed, another assignment.
        group_by: regular expression searched in the photo's stem. Photos whose first group (or
            whole match) is the same share a split; without a match the stem counts.
    """

    shares: dict[str, float]
    seed: int = 0
    group_by: str = ""

    def __post_init__(self) -> None:
        if self.shares and abs(sum(self.shares.values()) - 1) > 1e-6:
            raise CrackError(f"the shares of --split sum to {sum(self.shares.values()):g}, not 1")
        if any(share <= 0 for share in self.shares.values()):
            raise CrackError("every share of --split must be greater than 0")
        try:
            re.compile(self.group_by)
        except re.error as error:
            raise CrackError(f"--group-by {self.group_by!r} is no pattern: {error}") from error


def parse_shares(text: str) -> dict[str, float]:
    """Parse ``train=0.8,val=0.2``.

    Raises:
        CrackError: not NAME=SHARE, a name twice, or a name that no file could carry.
    """
    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            share = float(value)
        except ValueError as error:
            raise CrackError(f"--split {part!r} is not NAME=SHARE, e.g. train=0.8") from error
        if not re.fullmatch(r"\w+", name) or name in shares:
            raise CrackError(f"--split {part!r}: {name!r} is not a name, or stands there twice")
        shares[name] = share
    return shares


def group_of(stem: str, group_by: str) -> str:
    """The group that a photo's stem belongs to under the pattern ``group_by``."""
    match = re.search(group_by, stem) if group_by else None
    if match is None:
        return stem
    return (match.group(1) if match.re.groups else match.group()) or stem


def split_of(stem: str, options: SplitOptions) -> str:
    """The split of a photo, "" where there are none."""
    if not options.shares:
        return ""
    text = f"{options.seed}:{group_of(stem, options.group_by)}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    for name, share in options.shares.items():
        position -= share
        if position < 0:
            return name
    return next(reversed(options.shares))


def split_path(output: Path, split: str, options: SplitOptions) -> Path:
    """The JSON of one split: ``crack.json`` or ``crack_train.json`` → ``crack_val.json``."""
    if not split:
        return output
    stem = output.stem
    for name in options.shares:
        if stem.endswith(f"_{name}"):
            stem = stem[: -len(name) - 1]
            break
    return output.with_name(f"{stem}_{split}{output.suffix or '.json'}")
