"""Which split a photo goes to: decided by a hash of its group, so that it stays there.

The same group gets the same split in every set converted with the same seed and shares, and new
photos move no old ones, but for sets so small that a split would stay empty.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath

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


def group_of(file_name: str, group_by: str) -> str:
    """The group of a photo: what ``group_by`` finds in its stem, else its name without ending."""
    name = PurePosixPath(file_name)
    match = re.search(group_by, name.stem) if group_by else None
    found = match and (match.group(1) if match.re.groups else match.group())
    return found or str(name.with_suffix(""))


def assign_splits(groups: Sequence[str], options: SplitOptions) -> dict[str, str]:
    """The split of each group, "" for all where there are no shares.

    A group goes where its hash falls. Where that leaves a split without any, the group whose hash
    is nearest to the split's range moves there, from a split that has others.

    Raises:
        CrackError: there are fewer groups than splits.
    """
    if not options.shares:
        return dict.fromkeys(groups, "")
    places = {group: _position(group, options.seed) for group in groups}
    if len(places) < len(options.shares):
        raise CrackError(
            f"--split asks for {len(options.shares)} sets, but the photos make only "
            f"{len(places)} groups (photos of one group stay together); give more photos, ask for "
            "fewer sets, or choose another --group-by"
        )
    ends = dict(zip(options.shares, accumulate(options.shares.values()), strict=True))
    last = next(reversed(ends))
    found = {
        group: next((split for split, end in ends.items() if place < end), last)
        for group, place in places.items()
    }
    for split, end in ends.items():
        if split not in found.values():
            size = Counter(found.values())
            movable = [group for group in places if size[found[group]] > 1]
            middle = end - options.shares[split] / 2
            found[min(movable, key=lambda group: abs(places[group] - middle))] = split
    return found


def _position(group: str, seed: int) -> float:
    text = f"{seed}:{group}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


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
