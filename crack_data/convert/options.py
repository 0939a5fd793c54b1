"""How masks are cleaned: the options and their presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import CrackError


@dataclass(frozen=True)
class CleaningOptions:
    """How a grey mask becomes a binary one. Lengths are in px, areas in px².

    Attributes:
        threshold: "auto", "otsu", or the 8-bit level above which a pixel is crack.
        invert: "yes" where cracks are dark on light, "no" where they are light, "auto" to take
            the rarer of the two as crack.
        opening, closing: side of the square kernel; 0 or 1 leaves the step out.
        min_area: smaller components are dropped, with two exceptions below.
        cluster_gap: components within this distance make a cluster. In one that is nowhere 3 px
            thick, all pieces stay if together they reach `min_area`: a thin crack that
            compression broke. 0 judges every component by itself.
        min_piece: beside a thick crack of `min_area`, pieces from this area on stay; what is
            smaller is ringing. (Beside a thin one, all but single specks.)
        fill_holes: holes up to this area are filled; 0 fills none.
        bridge_gap: gaps up to this width between two components are closed; 0 closes none.
        remove_halo: drop the halo of specks that double compression leaves, see `ringing`.
        connectivity: 4 or 8.
    """

    threshold: str | int = "auto"
    invert: str = "auto"
    opening: int = 0
    closing: int = 0
    min_area: int = 28
    cluster_gap: int = 6
    min_piece: int = 16
    fill_holes: int = 0
    bridge_gap: int = 0
    remove_halo: bool = True
    connectivity: int = 8

    def __post_init__(self) -> None:
        level = self.threshold
        if level not in ("auto", "otsu") and not (isinstance(level, int) and 0 <= level < 255):
            raise CrackError(f"threshold must be auto, otsu or a level from 0 to 254, not {level}")
        if self.invert not in ("auto", "yes", "no"):
            raise CrackError(f"invert must be auto, yes or no, not {self.invert}")
        if self.connectivity not in (4, 8):
            raise CrackError(f"connectivity must be 4 or 8, not {self.connectivity}")
        for field in fields(self)[2:-1]:
            if getattr(self, field.name) < 0:
                raise CrackError(f"{field.name} must not be negative")


PRESETS = {
    "thin": CleaningOptions(),
    "classic": CleaningOptions(
        threshold=127,
        opening=2,
        closing=2,
        min_area=200,
        cluster_gap=0,
        min_piece=0,
        remove_halo=False,
    ),
}


def preset(name: str, **changes: Any) -> CleaningOptions:
    """Return the named preset with ``changes`` to single options.

    Raises:
        CrackError: no preset of that name, or an option out of range.
    """
    if name not in PRESETS:
        raise CrackError(f"no preset {name}; there are {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name], **changes)
