"""The demo's commands, as a user would type them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import CrackError

CONFIG = "configs/crack_mobilenet.yaml"
SHIPPED = "checkpoints/crack_mobilenet.pth"


@dataclass(frozen=True)
class DemoOptions:
    """What the demo works on.

    Attributes:
        output: folder for everything it writes.
        images, masks: the user's folders; None: photos are drawn.
        photos: how many are drawn.
        iterations: of the fine-tuning.
        samples: how many validation photos are predicted and shown.
        crop: side of the training crops, px.
        rounds: how often the benchmark times each photo.
    """

    output: Path
    images: Path | None = None
    masks: Path | None = None
    photos: int = 60
    iterations: int = 40
    samples: int = 6
    crop: int = 320
    rounds: int = 3

    def __post_init__(self) -> None:
        """Check that both folders are given, or none.

        Raises:
            CrackError: only one is.
        """
        if (self.images is None) != (self.masks is None):
            raise CrackError("give both IMAGES=… and MASKS=…, or neither for drawn photos")


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Attributes:
        title: what it does.
        command: its words.
        evaluation: folder with the metrics that it leaves, for a command that leaves any.
    """

    title: str
    command: tuple[str, ...]
    evaluation: Path | None = None


def data_steps(options: DemoOptions) -> list[Step]:
    """From photos and masks to COCO JSON, with the report."""
    output = options.output
    drawn = output / "photos"
    images = options.images or drawn / "images"
    masks = options.masks or drawn / "masks"
    draw = Step(
        "Draw photos with cracks, and masks as noisy as real ones",
        _python("tools/make_synthetic.py", "--output", drawn, "--count", options.photos, "--noise"),
    )
    convert = Step(
        "Clean the masks, split them into instances, write COCO JSON and the report",
        _python(
            *("tools/convert_to_coco.py", "--images", images, "--masks", masks),
            *("--output", output / "crack.json", "--split", "train=0.8,val=0.2"),
            *("--report", output / "report"),
        ),
    )
    return [convert] if options.images else [draw, convert]


def model_steps(options: DemoOptions) -> list[Step]:
    """The shipped model on the data, a short fine-tuning, and the tuned model on the data."""
    training = options.output / "training"
    return [
        *_judge(options, "shipped", SHIPPED, "before"),
        Step("Fine-tune it on these photos", _train(options, training)),
        *_judge(options, "tuned", training / "model_best.pth", "after"),
    ]


def benchmark_step(options: DemoOptions) -> Step:
    """The light model beside the heavy one: parameters, size, milliseconds."""
    return Step(
        "Compare the light model with R101",
        _python(
            *("tools/benchmark.py", "--images", options.output / "samples"),
            *("--max-images", 2, "--rounds", options.rounds),
            *("--config-file", "configs/crack_r101.yaml", "--config-file", CONFIG),
            *("--output", options.output / "benchmark"),
        ),
    )


def serve_command(options: DemoOptions, port: int) -> tuple[str, ...]:
    """The server with the tuned model."""
    weights = options.output / "training" / "model_best.pth"
    return _python("-m", "serve", "--weights", weights, "--port", port)


def post_command(options: DemoOptions, photo: Path, port: int) -> tuple[str, ...]:
    """One photo to the server; the drawn answer and its headers go to files."""
    answer, headers = options.output / "answer.png", options.output / "answer_headers.txt"
    url = f"localhost:{port}/predict"
    return _words("curl", "-sS", "-F", f"image=@{photo}", url, "-o", answer, "-D", headers)


def evaluation_folder(options: DemoOptions, name: str) -> Path:
    """Where the evaluation "before" or "after" the tuning leaves its files."""
    return options.output / f"evaluation_{name}"


def _judge(options: DemoOptions, model: str, weights: str | Path, name: str) -> list[Step]:
    folder = evaluation_folder(options, name)
    evaluate = _python(
        *("tools/train_net.py", "--config-file", CONFIG, "--eval-only"),
        *("MODEL.WEIGHTS", weights, *_datasets(options), "OUTPUT_DIR", folder),
    )
    return [
        Step(f"What the {model} model sees", _predict(options, weights, name)),
        Step("How well that fits the masks", evaluate, folder),
    ]


def _predict(options: DemoOptions, weights: str | Path, name: str) -> tuple[str, ...]:
    samples, output = options.output / "samples", options.output / name
    return _python("tools/predict.py", "--input", samples, "--output", output, "--weights", weights)


def _train(options: DemoOptions, folder: Path) -> tuple[str, ...]:
    """A few dozen iterations: a small rate, a short warm-up, and an average that keeps up."""
    iterations = options.iterations
    schedule = {
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.BASE_LR": 0.0003,
        "SOLVER.WARMUP_ITERS": iterations // 8,
        "SOLVER.CHECKPOINT_PERIOD": iterations,
        "TEST.EVAL_PERIOD": iterations // 2,
        "CRACK.EMA_DECAY": 0.9,
        "CRACK.AUG.CROP_SIZE": options.crop,
    }
    return _python(
        *("tools/train_net.py", "--config-file", CONFIG, "MODEL.WEIGHTS", SHIPPED),
        *_datasets(options),
        *(word for pair in schedule.items() for word in pair),
        *("OUTPUT_DIR", folder),
    )


def _datasets(options: DemoOptions) -> tuple[str, ...]:
    train, val = (options.output / f"crack_{split}.json" for split in ("train", "val"))
    return "DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", f"('{val}',)"


def _python(*words: object) -> tuple[str, ...]:
    return _words("python", *words)


def _words(*words: object) -> tuple[str, ...]:
    return tuple(str(word) for word in words)
