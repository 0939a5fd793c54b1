"""The report of real conversions of drawn photos, with every kind of trouble put in."""

from __future__ import annotations

import base64
import csv
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from crack_data.convert.coco import annotation
from crack_data.convert.conversion import ConversionResult, convert
from crack_data.convert.pairing import PairRecord
from crack_data.convert.worker import ConversionOptions
from crack_data.report import draw_pictures, worst_first, write_report
from crack_data.synthetic import write_photos

COUNT = 8
SPECIAL = COVERED, TRUNCATED, LONELY = "drawn_00001", "drawn_00002", "drawn_00003"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> ConversionOptions:
    """A set with a mask over half of its photo, a truncated photo and a photo without mask."""
    folder = tmp_path_factory.mktemp("set")
    write_photos(folder, COUNT, height=96, width=128, noise=True)
    covered = np.zeros((96, 128), np.uint8)
    covered[:44] = 255
    cv2.imwrite(str(folder / "masks" / f"{COVERED}.png"), covered)
    photo = folder / "images" / f"{TRUNCATED}.jpg"
    photo.write_bytes(photo.read_bytes()[:500])
    (folder / "masks" / f"{LONELY}.png").unlink()
    odd = "crack <b>&amp;.jpg"
    others = [path for path in (folder / "masks").iterdir() if path.stem not in SPECIAL]
    cracked = max(others, key=lambda path: (np.asarray(cv2.imread(str(path))) > 127).sum()).stem
    shutil.copy(folder / "images" / f"{cracked}.jpg", folder / "images" / odd)
    shutil.copy(folder / "masks" / f"{cracked}.png", folder / "masks" / f"{odd[:-4]}.png")
    return ConversionOptions(
        images=folder / "images",
        masks=folder / "masks",
        output=folder / "set.json",
        shares={"train": 0.5, "val": 0.5},
        workers=1,
        skip_bad=True,
    )


@pytest.fixture(scope="module")
def result(options: ConversionOptions) -> ConversionResult:
    return convert(options)


@pytest.fixture(scope="module")
def page(
    result: ConversionResult, options: ConversionOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_report(result, options, tmp_path_factory.mktemp("report") / "new")


class _Page(HTMLParser):
    """Collects addresses, pictures, elements and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.alts += [known["alt"] or ""] if tag == "img" else []
        self.addresses += [
            value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "data")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_from_anywhere(page: Path) -> None:
    parsed = _Page(page)
    elsewhere = [a for a in parsed.addresses if not a.startswith(("data:", "#"))]
    assert elsewhere == ["flags.csv"]
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert "@import" not in parsed.text
    assert "url(http" not in page.read_text("utf-8")


def test_every_usable_pair_is_on_the_sheet(page: Path) -> None:
    alts = _Page(page).alts
    for kind in ("photo", "mask as it came", "cleaned mask", "instances"):
        assert alts.count(kind) == COUNT - 1  # one truncated, one lonely, one copied


def test_the_sheet_is_limited_and_starts_with_the_flagged(
    result: ConversionResult,
    options: ConversionOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crack_data.report.SAMPLES", 2)
    parsed = _Page(write_report(result, options, tmp_path))
    assert len(parsed.alts) == 8
    sheet = parsed.text[parsed.text.index("Contact sheet") :]
    assert f"{COVERED}.jpg" in sheet
    assert "coverage 45.8" in sheet


def test_counts_trouble_and_names_are_told(page: Path, result: ConversionResult) -> None:
    text = " ".join(_Page(page).text.split())
    assert f"{COUNT} pairs of photo and mask: {COUNT - 1} usable" in text
    assert "1 photos without a mask" in text
    widths = [record.mean_width for record in result.used() if record.instances]
    assert f"mean crack width, px{min(widths):.4g}" in text
    areas = [record.crack_area for record in result.used() if record.instances]
    assert max(areas) > 1000
    assert f"{max(areas):,}" in text
    assert f"{TRUNCATED}.jpg" in text[text.index("Left out") : text.index("Without partner")]
    assert f"{LONELY}.jpg" in text[text.index("Without partner") :]
    assert "crack <b>&amp;.jpg" in text
    assert "b" not in _Page(page).tags


def test_flags_csv_lists_every_flag(page: Path, result: ConversionResult) -> None:
    with open(page.parent / "flags.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    expected = [
        (record.photo, kind, value)
        for record in result.records
        for kind, value in record.flags.items()
    ]
    assert rows[0] == ["photo", "flag", "value"]
    assert [(photo, kind) for photo, kind, _ in rows[1:]] == [e[:2] for e in expected]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([e[2] for e in expected], rel=1e-4)
    assert {kind for _, kind, _ in expected} >= {"coverage", "duplicate_mask"}


def test_the_same_conversion_gives_the_same_page(
    page: Path, result: ConversionResult, options: ConversionOptions, tmp_path: Path
) -> None:
    assert write_report(result, options, tmp_path).read_bytes() == page.read_bytes()


def test_a_set_without_any_crack(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "plain.png"), np.zeros((40, 50), np.uint8))
    options = ConversionOptions(tmp_path / "images", tmp_path / "masks", tmp_path / "none.json")
    page = write_report(convert(options), options, tmp_path / "report")
    assert "1 usable, 0 suspicious" in " ".join(_Page(page).text.split())


def test_a_failing_report_leaves_the_old_one(
    page: Path, result: ConversionResult, options: ConversionOptions, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("old")
    gone = [replace(record, photo="gone.jpg") for record in result.records]
    with pytest.raises(ValueError, match=r"gone\.jpg"):
        write_report(replace(result, records=gone), options, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "old"


def _record(photo: str, coverage: float = 2.0, **flags: float) -> PairRecord:
    return PairRecord(
        photo, photo, width=10, height=10, instances=1, coverage=coverage, mean_width=3, flags=flags
    )


def test_order_is_flags_then_distance_from_the_median() -> None:
    records = [
        _record("usual", 2.0),
        _record("also usual", 2.1),
        _record("rather full", 9.0),
        _record("flagged", 2.0, empty=1.0),
        _record("flagged twice", 2.0, mirrored=0.5, duplicate_mask=2.0),
    ]
    names = [record.photo for record in worst_first(records)]
    assert names[:3] == ["flagged twice", "flagged", "rather full"]
    assert worst_first([]) == []


@pytest.mark.parametrize("together", [True, False])
def test_instances_have_colours_of_their_own(together: bool, tmp_path: Path) -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[10:20], mask[70:80] = 1, 1
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((90, 120, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    boxes = [(10, 80)] if together else [(10, 20), (70, 80)]
    found = [annotation(mask[a:b].copy(), 0, a, mask.shape, "rle") for a, b in boxes]
    found.append(annotation(mask[10:20].copy(), 0, 40, mask.shape, "rle", crowd=True))
    record = replace(
        _record(str(tmp_path / "photo.png")), masks=(str(tmp_path / "mask.png"),),
        width=120, height=90, annotations=found,
    )  # fmt: skip
    pictures = {caption: _decoded(url) for caption, url in draw_pictures(record)}
    image = pictures["instances"].astype(int)
    assert (np.abs(image[15, 60] - image[75, 60]).max() > 60) != together
    assert np.abs(image[45, 60] - 140).max() < 12  # ignored
    assert pictures["mask as it came"][15, 60].min() == 255  # of a mask of 0 and 1
    assert not pictures["cleaned mask"][45, 60].any()


def _decoded(url: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.browser
def test_a_browser_shows_it_from_disk(page: Path, chromium: str, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1200,2400", f"--screenshot={shot}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    image = cv2.imread(str(shot))
    assert image is not None
    red = (image == (0x1E, 0x26, 0xB3)).all(axis=-1)  # marks of flags
    assert red.sum() > 100
