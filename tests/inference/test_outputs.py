from __future__ import annotations

import pytest

from crack_data.inference.outputs import output_names
from crack_data.storage import PhotoFile


def names(*files: str, known: dict[str, str] | None = None) -> list[str]:
    return output_names([PhotoFile(f"/in/{x}", x) for x in files], known or {})


def test_the_stem_where_it_is_free() -> None:
    assert names("a.jpg", "b.c.png", "sub/d.tif") == ["a", "b.c", "sub/d"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.jpg", "a.png"], ["a", "a_png"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
        (["x/a.jpg", "x/a.png"], ["x/a", "x/a_png"]),
        (["a.jpg", "A.jpg"], ["a", "A_jpg"]),  # one file on some file systems
        (["a.jpg", "a.png", "a_png.jpg"], ["a", "a_png", "a_png_jpg"]),
    ],
)
def test_photos_of_one_stem_get_names_of_their_own(files: list[str], expected: list[str]) -> None:
    assert names(*files) == expected


def test_known_photos_keep_their_names() -> None:
    assert names("a.bmp", "a.jpg", known={"/in/a.jpg": "a"}) == ["a_bmp", "a"]


def test_many_of_one_name() -> None:
    found = output_names([PhotoFile(f"/{i}/a.jpg", "a.jpg") for i in range(50)], {})
    assert len(set(found)) == 50
