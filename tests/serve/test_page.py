"""The page in a real browser: a real upload, the slider, the downloads, phone and keyboard."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from .conftest import running_server

if TYPE_CHECKING:
    from crack_data.inference.prediction import CrackPrediction
    from crack_data.inference.predictor import CrackPredictor


pytestmark = pytest.mark.browser

WIDE = (1280, 900)
PHONE = (390, 844)
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile, closed with its pages after the test."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


class Visit:
    """A page that was opened, and what it complained about or fetched from elsewhere."""

    def __init__(self, context: BrowserContext, url: str, size: tuple[int, int]) -> None:
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        # Playwright catches file choosers while somebody listens, and a key pressed right after the
        # first one begins to may overtake that: the chooser then opens unseen.
        self.page.on("filechooser", lambda chooser: None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(f"{line.type}: {line.text}"))
        self.page.on("request", lambda request: self._note(request.url, url))
        self.page.goto(url)

    def _note(self, requested: str, own: str) -> None:
        if not requested.startswith((own, "blob:", "data:")):
            self.foreign.append(requested)

    def hold(self, pattern: str) -> list[Route]:
        """Requests from now on, none of which goes out before it is continued."""
        held: list[Route] = []

        def keep(route: Route) -> None:
            held.append(route)

        self.page.route(pattern, keep)
        return held

    def upload(self, path: Path) -> None:
        """Choose a photo and wait for the answer."""
        self.page.set_input_files("#file", path)
        expect(self.page.locator("#status")).to_contain_text(path.name, timeout=PATIENCE_MS)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_upload_shows_photo_cracks_and_percentage(
    context: BrowserContext, url: str, photo_file: Path, size: tuple[int, int]
) -> None:
    visit = Visit(context, url, size)
    page = visit.page
    visit.upload(photo_file)
    answer = requests.post(
        url + "/predict?format=json", files={"image": photo_file.read_bytes()}, timeout=60
    ).json()
    expect(page.locator("#percent")).to_have_text(f"{answer['percent_masked']:.2f} %")
    expect(page.locator("#count")).to_have_text(str(len(answer["instances"])))
    expect(page.locator("#size")).to_have_text("128 × 96 px")
    expect(page.locator("#instances tr")).to_have_count(len(answer["instances"]))
    for picture in ("#input", "#output"):
        assert page.eval_on_selector(picture, "x => [x.naturalWidth, x.naturalHeight]") == [128, 96]
    # Side by side where there is room, one above the other on a phone; never wider than the screen.
    left, right = (page.locator(x).bounding_box() for x in ("#input", "#output"))
    assert left is not None
    assert right is not None
    assert (left["y"] == right["y"]) == (size == WIDE)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    font_px = page.eval_on_selector("#percent", "x => parseFloat(getComputedStyle(x).fontSize)")
    assert font_px >= 40
    assert visit.complaints == []
    assert visit.foreign == []


def test_threshold_slider_changes_the_answer(
    context: BrowserContext, url: str, photo_file: Path
) -> None:
    page = Visit(context, url, WIDE).page
    page.set_input_files("#file", photo_file)
    expect(page.locator("#result")).to_be_visible(timeout=PATIENCE_MS)
    page.locator("#threshold").fill("1")
    expect(page.locator("#percent")).to_have_text("0.00 %", timeout=PATIENCE_MS)
    expect(page.locator("#none")).to_be_visible()
    expect(page.locator("#threshold-value")).to_have_text("1.00")
    # By the keyboard: one step below 1.
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#threshold-value")).to_have_text("0.99")


@pytest.mark.parametrize("count", [1, 3])
def test_drop_photos(context: BrowserContext, url: str, photo_file: Path, count: int) -> None:
    """The first of several is predicted, which the page says."""
    page = Visit(context, url, WIDE).page
    transfer = page.evaluate_handle(
        """([bytes, names]) => {
            const transfer = new DataTransfer();
            for (const name of names) {
                const file = new File([new Uint8Array(bytes)], name, { type: "image/png" });
                transfer.items.add(file);
            }
            return transfer;
        }""",
        [list(photo_file.read_bytes()), ["dropped.png", "b.png", "c.png"][:count]],
    )
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    status = page.locator("#status")
    expect(status).to_contain_text("dropped.png", timeout=PATIENCE_MS)
    said = "the first of 3 files; the others are not used" in str(status.text_content())
    assert said == (count == 3)


def test_downloads(context: BrowserContext, url: str, photo_file: Path, tmp_path: Path) -> None:
    visit = Visit(context, url, WIDE)
    visit.upload(photo_file)
    saved = {}
    for button, name in [
        ("#save-overlay", "wall_overlay.png"),
        ("#save-mask", "wall_mask.png"),
        ("#save-json", "wall.json"),
    ]:
        with visit.page.expect_download(timeout=PATIENCE_MS) as download:
            visit.page.click(button)
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        saved[name] = tmp_path / name
    mask = cv2.imread(str(saved["wall_mask.png"]), cv2.IMREAD_UNCHANGED)
    answer = json.loads(saved["wall.json"].read_text())
    assert 100 * np.mean(mask > 0) == pytest.approx(answer["percent_masked"])
    assert cv2.imread(str(saved["wall_overlay.png"])).shape == (96, 128, 3)
    shown = visit.page.get_attribute("#output", "src")
    assert b64decode(str(shown).partition(",")[2]) == saved["wall_overlay.png"].read_bytes()


@pytest.fixture
def bridge_file(tmp_path: Path) -> Path:
    """A photo of another size and name than `photo_file`."""
    cv2.imwrite(str(tmp_path / "bridge.png"), np.full((40, 50, 3), 150, np.uint8))
    return tmp_path / "bridge.png"


def test_a_new_photo_hides_the_last_result_until_its_answer_is_there(
    context: BrowserContext, url: str, photo_file: Path, bridge_file: Path
) -> None:
    visit = Visit(context, url, WIDE)
    page = visit.page
    visit.upload(photo_file)
    held = visit.hold("**/predict?*")
    with page.expect_request("**/predict?*"):
        page.set_input_files("#file", bridge_file)
    expect(page.locator("#status")).to_contain_text("Looking for cracks")
    expect(page.locator("#result")).to_be_hidden()
    held[0].continue_()
    expect(page.locator("#size")).to_have_text("50 × 40 px", timeout=PATIENCE_MS)
    expect(page.locator("#result")).to_be_visible()


def test_a_mask_that_comes_late_has_its_own_photos_name(
    context: BrowserContext, url: str, photo_file: Path, bridge_file: Path, tmp_path: Path
) -> None:
    visit = Visit(context, url, WIDE)
    page = visit.page
    visit.upload(photo_file)
    held = visit.hold("**/predict?format=mask*")
    with page.expect_request("**/predict?format=mask*"):
        page.click("#save-mask")
    visit.upload(bridge_file)
    with page.expect_download(timeout=PATIENCE_MS) as download:
        held[0].continue_()
    assert download.value.suggested_filename == "wall_mask.png"
    download.value.save_as(tmp_path / "mask.png")
    assert cv2.imread(str(tmp_path / "mask.png")).shape == (96, 128, 3)


def test_a_threshold_that_fails_leaves_the_last_result(
    context: BrowserContext, predictor: CrackPredictor, photo_file: Path, bridge_file: Path
) -> None:
    def ill(image: np.ndarray, threshold: float | None, _: object) -> CrackPrediction:
        if threshold == 1:
            raise RuntimeError("no memory, say")
        return predictor(image, threshold)

    with running_server(ill, deadline_s=600) as url:
        visit = Visit(context, url, WIDE)
        page, status = visit.page, visit.page.locator("#status.error")
        visit.upload(photo_file)
        found, threshold = page.text_content("#percent"), page.input_value("#threshold")
        page.locator("#threshold").fill("1")
        expect(status).to_contain_text("wall.png: ", timeout=PATIENCE_MS)
    for value in ("1", "0.9"):  # and now the server is gone
        expect(page.locator("#result")).to_be_visible()
        assert page.text_content("#percent") == found
        assert page.input_value("#threshold") == threshold
        page.locator("#threshold").fill(value)
        expect(status).to_have_text("wall.png: the server cannot be reached; try again")
    page.set_input_files("#file", bridge_file)
    expect(status).to_have_text("bridge.png: the server cannot be reached; try again")
    expect(page.locator("#result")).to_be_hidden()


def test_works_by_keyboard_alone(context: BrowserContext, url: str, photo_file: Path) -> None:
    page = Visit(context, url, WIDE).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photo_file)
    expect(page.locator("#result")).to_be_visible(timeout=PATIENCE_MS)
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["threshold", "save-overlay", "save-mask", "save-json", "TR"]
    expect(page.locator("#marker")).to_be_visible()  # the focused row's box on the photo


def test_a_refusal_is_shown_as_a_sentence(
    context: BrowserContext, url: str, tmp_path: Path
) -> None:
    page = Visit(context, url, WIDE).page
    (tmp_path / "notes.png").write_text("not a photo at all")
    page.set_input_files("#file", tmp_path / "notes.png")
    status = page.locator("#status.error")
    expect(status).to_contain_text("not a photo in a known format", timeout=PATIENCE_MS)
    expect(page.locator("#result")).to_be_hidden()


def test_asks_for_the_key(
    context: BrowserContext, predictor: CrackPredictor, photo_file: Path
) -> None:
    with running_server(predictor, api_key="sesame") as url:
        page = Visit(context, url, PHONE).page
        page.set_input_files("#file", photo_file)
        expect(page.locator("#key-form")).to_be_visible(timeout=PATIENCE_MS)
        page.fill("#key", "s\u00e9same")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("letters that no key can have")
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#percent")).to_contain_text("%", timeout=PATIENCE_MS)
        expect(page.locator("#key-form")).to_be_hidden()
