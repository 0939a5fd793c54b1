"""Draw a prediction on its photo so that a person sees every crack, thin ones too."""

import cv2
import numpy as np

from .prediction import CrackInstance, CrackPrediction

Colour = tuple[int, int, int]

# BGR, told apart from each other and from concrete and asphalt.
COLOURS: tuple[Colour, ...] = (
    (60, 60, 255), (255, 190, 0), (0, 200, 255), (255, 80, 220), (80, 230, 60),
    (255, 120, 60), (0, 130, 255), (220, 230, 0), (170, 90, 255), (60, 255, 210),
)  # fmt: skip


def draw_prediction(
    image_bgr: np.ndarray, prediction: CrackPrediction, boxes: bool = False, scores: bool = False
) -> np.ndarray:
    """Colour the instances on a copy of a photo, BGR uint8 (H, W, 3): fills and outlines."""
    canvas = image_bgr.copy()
    # Lines of so many px show when the photo fills a screen.
    line = max(1, round(max(image_bgr.shape[:2]) / 900))
    # The best is drawn last, on top.
    for index, instance in reversed(list(enumerate(prediction.instances))):
        colour = instance_colour(index)
        _draw_mask(canvas, instance, colour, line)
        if boxes:
            x0, y0, x1, y1 = instance.box
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, line)
        if scores:
            _write_score(canvas, instance, colour, line)
    return canvas


def encode_png(pixels: np.ndarray) -> bytes:
    """A picture, uint8, (H, W) grey or (H, W, 3) BGR, or a mask, bool (H, W), as a PNG file."""
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8) * np.uint8(255)
    return cv2.imencode(".png", pixels)[1].tobytes()


def instance_colour(index: int) -> Colour:
    """BGR colour of the instance with this position in `CrackPrediction.instances`."""
    return COLOURS[index % len(COLOURS)]


def colour_instances(labels: np.ndarray) -> np.ndarray:
    """A label map, (H, W), in the colours of its instances 1, 2, …, else black: BGR (H, W, 3)."""
    colours = [(0, 0, 0), *map(instance_colour, range(labels.max(initial=0)))]
    return np.array(colours, np.uint8)[labels]


def _draw_mask(canvas: np.ndarray, instance: CrackInstance, colour: Colour, line: int) -> None:
    """Fill the mask half transparently and draw an outline of ``line`` px around, not over, it."""
    x0, y0, x1, y1 = instance.box
    left, top = max(0, x0 - line), max(0, y0 - line)
    crop = canvas[top : y1 + line, left : x1 + line]
    mask = np.zeros(crop.shape[:2], np.uint8)
    mask[y0 - top : y1 - top, x0 - left : x1 - left] = instance.mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * line + 1, 2 * line + 1))
    crop[cv2.dilate(mask, kernel) > mask] = colour
    inside = mask.view(bool)
    crop[inside] = crop[inside] * 0.55 + np.array(colour) * 0.45


def _write_score(canvas: np.ndarray, instance: CrackInstance, colour: Colour, line: int) -> None:
    text = f"{100 * instance.score:.0f}%"
    scale = 0.4 * line + 0.1
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, line)
    x0, y0, _, y1 = instance.box
    x = max(0, min(x0, canvas.shape[1] - text_width - 1))
    y = y0 - 2 * line
    if y - text_height < 0:
        y = min(y1 + text_height + 2 * line, canvas.shape[0] - 1)
    cv2.putText(canvas, text, (x, y), font, scale, (0, 0, 0), 3 * line, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), font, scale, colour, line, cv2.LINE_AA)
