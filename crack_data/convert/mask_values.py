"""What the values of a set's masks mean, judged over the whole set: crack, ignored, background."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import CrackError
from .cleaning import ByteMask, auto_level
from .mask_files import CLASSES, NEAR, VOID, MaskImage, ValueCounts, Values, are_classes, to_rgb

_NUMBERS = 64  # below this, values are label numbers rather than grey levels
_NEAR_COLOUR = 64  # as `NEAR`, of colours, which compression keeps less well
_MOSTLY_LIGHT = 0.75  # of a set that is light: then its cracks, which seldom cover much, are dark
_REGIONS_PER_INSTANCE = 2.0  # at most, on average: few instances fall apart
_MANY_LABELS = 20
_SHADES = 1000  # values of a mask of more than 8 bits; with more it holds shares and no labels
_LISTED = 12


@dataclass(frozen=True)
class MaskReading:
    """How the values of a set's masks are read."""

    crack: frozenset[int] = frozenset()  # empty: those above the threshold of each mask
    ignored: frozenset[int] = frozenset()  # neither training nor evaluation should count them
    per_value: bool = False  # each value of `crack`, or without it every other, is an instance
    dark: bool = False  # cracks are the dark side of the threshold
    background: int = 0
    colours: bool = False  # whether values are colours, in grey masks of the set too
    top: int = 0  # what deep masks hold shares of; 0: they hold none
    mixed: bool = False  # fractions go beyond 1, so those of a file with none over 1 are just noise
    spans: bool = False  # other masks' levels go from dark to light, so what is low is just noise
    level: int | None = None  # between the two levels of a set; None: of each mask by itself
    numbers: bool = False  # lossy masks hold label numbers, so that what is low is not just noise
    sentence: str = ""  # what a person should know about it; "" for two plain levels

    def apply(self, mask: MaskImage) -> tuple[Values, ByteMask]:
        """Levels of a mask, light for crack, or numbers of instances; and ignored pixels. HxW."""
        values = to_rgb(mask.values) if self.colours and not mask.colours else mask.values
        ignored = _is_any(values, self.ignored, mask.lossy, self.colours).view(np.uint8)
        if self.per_value:
            outside = [self.background, *self.ignored]
            chosen = np.isin(values, list(self.crack) or outside, invert=not self.crack)
            return chosen * values.astype(np.int32), ignored
        if self.crack:
            crack = _is_any(values, self.crack, mask.lossy, self.colours)
            return crack * np.uint8(255), ignored
        if mask.colours or self.colours:
            values = _colour_distance(values, self.background)
        elif self.top or values.dtype != np.uint8:
            # Two levels are a mask's own. Shares are the set's: what is faint on a photo without
            # crack would become one.
            low, highest = int(values.min()), int(values.max())
            plain = not self.top or (low == 0 and np.isin(values, (0, highest)).all())
            low = 0 if self.top or low == highest else low
            whole = highest if plain else self.top if mask.deep else 255
            values = np.rint((values - low) * (255 / max(whole - low, 1)))
        grey = values.astype(np.uint8)
        grey = (255 - grey if self.dark else grey) * (1 - ignored)
        is_noise = grey.max() < _NUMBERS and not self.numbers
        is_noise = is_noise and (mask.lossy or (self.spans and len(np.unique(grey)) > 2))
        is_noise |= self.mixed and mask.scale > 1
        return (np.zeros_like(grey) if is_noise else grey), ignored


def _colour_distance(colours: Values, colour: int) -> Values:
    """How far colours are from one, in the channel that differs most."""
    channels = [abs((colours >> s & 255) - (colour >> s & 255)) for s in (16, 8, 0)]
    return np.maximum.reduce(channels)


def _is_any(values: Values | int, wanted: Iterable[int], lossy: bool, colours: bool) -> np.ndarray:
    """Which values are any of those wanted, or were before compression changed them."""
    values = np.asarray(values)
    if not lossy:
        return np.isin(values, list(wanted))
    found = np.zeros(values.shape, np.bool_)
    for value in wanted:
        far = _colour_distance(values, value) if colours else abs(values.astype(np.int64) - value)
        found |= far <= (_NEAR_COLOUR if colours else NEAR)
    return found


def parse_values(text: str) -> frozenset[int]:
    """Parse ``--crack-value``: numbers or #rrggbb, with commas between."""
    try:
        return frozenset(int(x.replace("#", "0x"), 0) for x in text.split(",") if x)
    except ValueError as error:
        raise CrackError(f"mask value {text!r} is neither a number nor #rrggbb") from error


def choose_reading(
    masks: list[ValueCounts],
    crack: frozenset[int] = frozenset(),
    ignored: frozenset[int] = frozenset(),
    per_value: bool = False,
    invert: str = "auto",
) -> MaskReading:
    """Decide how the masks of a set are read, from what they hold and what the user says."""
    mixed = {1, 65535} <= {mask.scale for mask in masks}
    masks = [mask for mask in masks if not (mixed and mask.scale > 1)]
    colours = any(mask.colours for mask in masks)
    masks = [mask.in_colours() for mask in masks] if colours else masks
    total: Counter[int] = Counter()
    for mask in masks:
        total.update(mask.pixels)
    background = 0 if 0 in total and not colours else max(total, key=lambda v: total[v], default=0)
    lossy = any(mask.lossy for mask in masks)
    for value in sorted(crack | ignored):
        if not _is_any(value, total, lossy, colours):
            listed = _list_values(total, total, colours)
            raise CrackError(f"no mask has the value {_name(value, colours)}; they have {listed}")
    is_named = bool(crack)
    shades = any(mask.deep and len(mask.pixels) > _SHADES for mask in masks)
    labels = {value for mask in masks for value in mask.regions} - {background}
    labels = _distinct(labels, background, total) if lossy and not colours else labels
    if crack or ignored or per_value:
        if not (crack or per_value):  # all that is not ignored
            others = set() if lossy else set(total) - {background}
            crack = frozenset(labels or others) - ignored
    elif not shades and _are_labels(labels, total):
        crack, ignored, per_value = _labels_read(labels, total, masks, colours)
    elif colours:
        return replace(_colour_reading(masks, total, background), dark=invert == "yes")
    else:
        return replace(_grey_reading(masks, total, labels, invert), mixed=mixed)
    if per_value and lossy:
        raise CrackError(
            "the masks number instances, but lossy compression (JPEG, WebP) changed the numbers; "
            "save them as PNG, or say which values are crack with --crack-value"
        )
    chosen = _is_any(np.array([*total], np.int64), crack, lossy, colours)
    pixels = np.array([*total.values()], np.int64)
    light = pixels[chosen].sum() > _MOSTLY_LIGHT * pixels.sum()
    if crack and not is_named and (light if invert == "auto" else invert == "yes"):
        crack, background = frozenset({background}), max(crack, key=lambda v: total[v])
    dark = invert == "yes" and not (crack or per_value)
    reading = MaskReading(crack, ignored, per_value, dark, background, colours)
    return replace(reading, sentence=_describe(reading, total, lossy) if total else "")


def _describe(reading: MaskReading, total: Counter[int], lossy: bool) -> str:
    """What each value of a set was read as."""
    chosen = reading.crack or reading.per_value  # else by the threshold of each mask

    def meaning(value: int) -> str:
        is_background = value == reading.background
        if _is_any(value, reading.ignored, lossy, reading.colours):
            return " ignored"
        is_crack = _is_any(value, reading.crack, lossy, reading.colours)
        if is_crack or (chosen and not reading.crack and not is_background):
            return " an instance" if reading.per_value else " crack"
        return " background" if is_background else " left out" if chosen else ""

    return f"how mask values were read: {_list_values(total, total, reading.colours, meaning)}"


def _distinct(labels: set[int], background: int, total: Counter[int]) -> set[int]:
    """The levels of lossy masks, of those near to each other the most frequent."""
    distinct: set[int] = set()
    for level in sorted(labels, key=lambda level: (-total[level], level)):
        if all(abs(level - other) > NEAR for other in (background, *distinct)):
            distinct.add(level)
    return distinct


def _are_labels(labels: set[int], total: Counter[int]) -> bool:
    """Whether these are more labels than one, and not one grey level and its neighbours."""
    top = max(total, default=0)
    if are_classes(set(total) - {0}) or not _NUMBERS <= top <= 255:
        return len(labels) > 1
    return len({top if value >= top - NEAR else value for value in labels if value > NEAR}) > 1


def _labels_read(
    labels: set[int], total: Counter[int], masks: Sequence[ValueCounts], colours: bool
) -> tuple[frozenset[int], frozenset[int], bool]:
    """Crack and ignored values of a set with labels, and whether each is an instance."""
    rest = labels - {VOID}
    ignored = frozenset({VOID} & labels) if rest and max(rest) <= CLASSES else frozenset()
    crack = frozenset(labels - ignored)
    if len(crack) == 1:
        return crack, ignored, False
    if _are_instances(masks, ignored, colours):
        return frozenset(), ignored, True
    listed = _list_values(total, {0, *labels}, colours)
    raise CrackError(
        f"the masks hold more than crack and background: {listed}; say "
        "which is crack with --crack-value (and --ignore-value for pixels that should not count), "
        "or --instances values if each value is a crack of its own"
    )


def _are_instances(masks: Sequence[ValueCounts], ignored: frozenset[int], colours: bool) -> bool:
    """Whether most masks number instances: few regions each, numbered evenly, high, or far."""
    found = [{v: n for v, n in mask.regions.items() if v not in ignored} for mask in masks]
    several = [mask for mask in found if len(mask) > 1]
    regions = [number for mask in several for number in mask.values()]
    if not regions or sum(regions) > _REGIONS_PER_INSTANCE * len(regions):
        return False
    many = len(set().union(*several)) > 2

    def is_numbered(mask: dict[int, int]) -> bool:
        even = len(set(np.diff([0, *sorted(mask)]).tolist())) == 1
        return len(mask) > _MANY_LABELS or (not colours and (max(mask) > 255 or (even and many)))

    return 2 * sum(map(is_numbered, several)) > len(several)


def _colour_reading(masks: list[ValueCounts], total: Counter[int], background: int) -> MaskReading:
    sentence = ""
    drawn = {value for mask in masks if len(mask.pixels) == 2 for value in mask.pixels}
    if any(mask.lossy for mask in masks):
        sentence = f"lossy masks in colours: all but the background, {_name(background, True)}, is"
        sentence += " read as crack; --crack-value names one colour"
    elif len(drawn - {background}) > 1:
        listed = _list_values(total, drawn - {background}, colours=True)
        sentence = f"masks differ in their colour of crack: {listed}; --crack-value names one"
    return MaskReading(background=background, colours=True, sentence=sentence)


def _grey_reading(
    masks: list[ValueCounts], total: Counter[int], labels: set[int], invert: str
) -> MaskReading:
    lossy = any(mask.lossy for mask in masks)
    numbers = lossy and max(total, default=0) < 4
    shared = None
    if len(total) == 2 and max(total) <= 255 and not lossy:
        # A mask of one level, no crack or all crack, does not tell which of the set's two it is.
        between = auto_level(min(total), max(total))
        alone = [value for mask in masks if len(mask.pixels) == 1 for value in mask.pixels]
        if any((value > between) != (value > auto_level(value, value)) for value in alone):
            shared = between
    top = max(total, default=0) if any(x.deep and len(x.pixels) > 2 for x in masks) else 0
    spans = not top and auto_level(min(total, default=1), max(total, default=1)) == 127
    pixels = sum(total.values())
    light = 0
    for mask in masks:
        low, high = min(mask.pixels), max(mask.pixels)
        if numbers or high >= _NUMBERS or not mask.lossy:
            is_one_side = spans and (_is_faint(mask, dark=False) or _is_faint(mask, dark=True))
            own = 127 if is_one_side else auto_level(low, high)
            level = own if shared is None else shared
            light += sum(n for value, n in mask.pixels.items() if value > level)
    dark = light > _MOSTLY_LIGHT * pixels if invert == "auto" else invert == "yes"
    extreme = min if dark else max
    levels = {extreme(mask.pixels) for mask in masks if len(mask.pixels) == 2}
    sentence = ""
    if dark and invert == "auto":
        share = 100 * light / pixels
        sentence = f"the masks are {share:.0f} % light: what is dark is read as crack"
    elif len(levels) > 1 and not lossy:
        sentence = f"masks differ in their level of crack: {_list_values(total, levels)}"
    elif len(labels) > 1:
        sentence = f"levels that were read as one: {_list_values(total, labels)}"
    if top:
        sentence = "masks are read as shares of the highest value in the set: crack above half"
    faint = sum(spans and not mask.lossy and _is_faint(mask, dark) for mask in masks)
    if faint:
        told = f"masks that are faint beside those of the set, read as without crack: {faint}"
        sentence = f"{sentence}; {told}" if sentence else told
    if shared is not None and dark:
        shared = 254 - shared
    return MaskReading(
        dark=dark, top=top, spans=faint > 0, level=shared, numbers=numbers, sentence=sentence
    )


def _is_faint(mask: ValueCounts, dark: bool) -> bool:
    """Whether a mask has several levels, all near the background's, as cracks are dark or light."""
    highest = 255 - min(mask.pixels) if dark else max(mask.pixels)
    return len(mask.pixels) > 2 and highest < _NUMBERS


def _list_values(
    total: Counter[int],
    chosen: Iterable[int],
    colours: bool = False,
    meaning: Callable[[int], str] = lambda value: "",
) -> str:
    """Values that masks hold, with their pixels: the most frequent, by number."""
    values = sorted(set(total).intersection(chosen), key=lambda value: -total[value])
    shown = sorted(values[:_LISTED])
    listed = [f"{_name(x, colours)}{meaning(x)} ({total[x]} px)" for x in shown]
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(listed) + more


def _name(value: int, colours: bool) -> str:
    return f"#{value:06x}" if colours else str(value)
