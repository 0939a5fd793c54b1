"""What a conversion found and did, for the report and for whoever calls it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .duplicates import NearDuplicate


@dataclass(slots=True)
class PairRecord:
    """What became of one pair.

    Attributes:
        photo, mask: paths of the files.
        width, height: of the upright photo, px; 0 where it could not be read.
        instances: annotations this pair has.
        crack_area: px; coverage: percent of the photo; mean_width: px.
        flags: suspicion (see `suspicion.FLAGS`) → its value.
        split: name of the split, "" without splits.
        error: why the pair is unusable, "" if it is fine.
        left_out: why a fine pair is not in the JSON, "" if it is in.
    """

    photo: str
    mask: str
    width: int
    height: int
    instances: int
    crack_area: int
    coverage: float
    mean_width: float
    flags: dict[str, float]
    split: str
    error: str
    left_out: str = ""


@dataclass
class ConversionResult:
    """The whole conversion.

    Attributes:
        records: of all pairs, in order.
        photos_without_mask, masks_without_photo: paths of files without partner.
        unreadable: folders that could not be listed, with the reason.
        near_duplicates: look-alikes across splits.
        outputs: split ("" without splits) → its JSON.
    """

    records: list[PairRecord]
    photos_without_mask: list[str]
    masks_without_photo: list[str]
    unreadable: list[tuple[str, str]]
    near_duplicates: list[NearDuplicate] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)

    def bad_files(self) -> list[str]:
        """One sentence for each file or folder that could not be used."""
        folders = [f"folder {path} cannot be read: {why}" for path, why in self.unreadable]
        return folders + [record.error for record in self.records if record.error]
