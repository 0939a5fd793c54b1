"""Which split a photo goes to: decided by a hash of its group, so that it stays there."""

import hashlib
import re
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath

from ..errors import CrackError, as_crack_error


def parse_shares(text: str) -> dict[str, float]:
    """Parse ``train=0.8,val=0.2``; a `CrackError` where shares do not sum to 1, say."""
    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\w+)=(\d*\.?\d+)", part)
        if not match or match[1] in shares or not float(match[2]):
            raise CrackError(
                f"--split {part!r} must be NAME=SHARE, e.g. train=0.8: each name once, each share "
                "greater than 0"
            )
        shares[match[1]] = float(match[2])
    if shares and not abs(sum(shares.values()) - 1) <= 1e-6:
        raise CrackError(f"the shares of --split sum to {sum(shares.values()):g}, not 1")
    return shares


def group_of(file_name: str, group_by: str) -> str:
    """The group of a photo: what ``group_by`` finds in its stem, else its name without ending."""
    name = PurePosixPath(file_name)
    with as_crack_error(f"--group-by {group_by!r} is no pattern"):
        match = re.search(group_by, name.stem) if group_by else None
    found = match and (match.group(1) if match.re.groups else match.group())
    return unicodedata.normalize("NFC", found or str(name.with_suffix("")))


def assign_splits(groups: Sequence[str], shares: dict[str, float], seed: int = 0) -> dict[str, str]:
    """Each group's split: where its hash falls, or is nearest if none does; "" without shares."""
    if not shares:
        return dict.fromkeys(groups, "")
    places = {}
    for group in groups:
        text = f"{seed}:{group}".encode(errors="surrogateescape")
        found = hashlib.blake2b(text, digest_size=8).digest()
        places[group] = int.from_bytes(found, "big") / 2**64
    if len(places) < len(shares):
        raise CrackError(
            f"--split asks for {len(shares)} sets, but the photos make only {len(places)} groups "
            "(photos of one group stay together); give more photos, ask for fewer sets, or choose "
            "another --group-by"
        )
    names, ends = [*shares], [*accumulate(shares.values())]
    splits = {group: names[min(bisect(ends, x), len(ends) - 1)] for group, x in places.items()}
    for split, end in zip(names, ends, strict=True):
        if split not in splits.values():
            size = Counter(splits.values())
            movable = [group for group in places if size[splits[group]] > 1]
            middle = end - shares[split] / 2
            splits[min(movable, key=lambda group: abs(places[group] - middle))] = split
    return splits


def split_path(output: Path, split: str, shares: dict[str, float]) -> Path:
    """The JSON of one split: ``crack.json`` or ``crack_train.json`` → ``crack_val.json``."""
    if not split:
        return output
    ending = next((f"_{name}" for name in shares if output.stem.endswith(f"_{name}")), "")
    return output.with_name(f"{output.stem.removesuffix(ending)}_{split}.json")
