"""The documentation's examples work and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.modeling import build_model

import crack_data.modeling  # noqa: F401 - registers the models
from crack_data.config import load_config

from .conftest import REPO
from .markdown import blocks, links

DOCUMENTS = sorted([*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("checkpoints/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    assert not [link for link in links(document) if not (document.parent / link).exists()]


def test_the_errors_that_the_readme_explains_are_raised() -> None:
    readme = (REPO / "README.md").read_text("utf-8")
    quoted = re.findall(r"^\| `error: (.*?)`", readme, re.MULTILINE)
    code = "".join(path.read_text("utf-8") for path in REPO.glob("crack_data/**/*.py"))
    # As one line: sentences go on in the next literal, with values in braces.
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    assert len(quoted) > 3
    for message in quoted:
        assert re.search(".*".join(re.escape(x) for x in message.strip("… ").split("…")), code)


def test_the_backbone_example_runs(repo: Path, tmp_path: Path) -> None:
    guide = repo / "docs" / "adding_a_backbone.md"
    (code,), (config,) = blocks(guide, "python"), blocks(guide, "yaml")
    exec(compile(code, str(guide), "exec"), {"__name__": "example"})
    keys = yaml.safe_load(config)
    keys["_BASE_"] = str(repo / "configs" / keys["_BASE_"])
    keys["MODEL"]["BACKBONE"]["WEIGHTS"] = ""
    file = tmp_path / "example.yaml"
    file.write_text(yaml.safe_dump(keys))
    model = build_model(load_config(str(file), ["MODEL.DEVICE", "cpu"])).eval()
    assert {shape.stride for shape in model.backbone.output_shape().values()} == {4, 8, 16, 32, 64}
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}])
    assert output["crack_map"].shape == (64, 96)
