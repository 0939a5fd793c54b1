from __future__ import annotations

import os
import posixpath
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from crack_data import storage
from crack_data.errors import CrackError
from crack_data.storage import PhotoFile, count_kinds, find_photos

from .test_convert_tool import as_ordinary_user


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names_of(photos: list[PhotoFile]) -> list[str]:
    return [photo.file_name for photo in photos]


def test_a_file_a_folder_and_globs(tmp_path: Path) -> None:
    make(tmp_path, "b.JPG", "a.png", "notes.txt", "sub/c.tiff", "sub/deep/d.jpeg")
    assert names_of(find_photos(str(tmp_path / "a.png"))) == ["a.png"]
    everything = ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.jpeg"]
    assert names_of(find_photos(str(tmp_path))) == everything
    assert names_of(find_photos(f"{tmp_path}/s*")) == ["sub/c.tiff", "sub/deep/d.jpeg"]
    assert names_of(find_photos(f"{tmp_path}/**/*.jpeg")) == ["sub/deep/d.jpeg"]
    assert find_photos(f"{tmp_path}/")[0].path == str(tmp_path / "a.png")


def test_photos_below_the_output_are_found(tmp_path: Path) -> None:
    make(tmp_path / "photos", "a.png")
    make(tmp_path / "results", "a.png")
    for pattern in ("photos", "photos/*.png", "photos/a.png"):
        found = find_photos(f"{tmp_path}/{pattern}", output=str(tmp_path))
        assert names_of(found) == ["a.png"]
    assert len(find_photos(str(tmp_path), output=str(tmp_path / "results"))) == 1


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    make(
        tmp_path, "a.jfif", "b.raw", "sub/c.txt", "sub/d.RAW", "README", ".hidden/e.jpg", "._f.jpg"
    )
    unread: Counter[str] = Counter()
    assert names_of(find_photos(str(tmp_path), unread=unread)) == ["a.jfif"]
    assert count_kinds(unread) == "2 .raw, 1 .txt, 1 without ending"
    assert count_kinds(Counter({".heic": 3})) == "3 .heic (install pillow-heif)"
    (tmp_path / "a.jfif").unlink()
    with pytest.raises(CrackError, match=r"holds no photos .*found 2 \.raw, 1 \.txt"):
        find_photos(str(tmp_path))


def test_photos_of_one_name_are_called_by_their_folders(tmp_path: Path) -> None:
    make(tmp_path, "a/x.jpg", "b/x.jpg", "b/y.jpg")
    inputs = [str(tmp_path / name) for name in ("a", "b", "b/y.jpg")]
    assert names_of(find_photos(*inputs)) == ["a/x.jpg", "b/x.jpg", "b/y.jpg"]
    assert names_of(find_photos(inputs[1], inputs[2])) == ["x.jpg", "y.jpg"]


def test_a_place_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/x.jpg", "b/x.jpg")
    (tmp_path / "link").symlink_to("b")
    monkeypatch.chdir(tmp_path / "a")
    photos = find_photos(".", "../a/./x.jpg", "../link/../b")
    assert names_of(photos) == ["a/x.jpg", "b/x.jpg"]  # no ../b/x.jpg, which lies beside a folder
    with pytest.raises(CrackError, match="holds the photo"):
        find_photos(str(tmp_path / "b"), output="../b")


def test_folders_of_results_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "old/.records/-settings.json", "old/a_mask.png", "old/sub/b_mask.png")
    make(tmp_path, "out/a_mask.png", "out/.records/-settings.json", "site/b.jpg")
    make(tmp_path, "site/predictions.json")  # another tool's
    unread: Counter[str] = Counter()
    found = find_photos(str(tmp_path), output=str(tmp_path / "out"), unread=unread)
    assert names_of(found) == ["a.jpg", "site/b.jpg"]
    assert count_kinds(unread) == f"1 .json, 1 folder of results ({tmp_path / 'old'})"
    with pytest.raises(CrackError, match="holds the photo"):
        find_photos(str(tmp_path / "a.jpg"), output=str(tmp_path))


@pytest.mark.parametrize("pattern", ["**/*.png", "old/*.png", "*/*.png"])
def test_globs_on_pictures_pass_results_over_too(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, "old/.records/-settings.json", "old/a_mask.png", "photos/b.png")
    alone = pattern.startswith("old")
    with pytest.raises(CrackError, match="1 folder of results") if alone else nullcontext():
        assert names_of(find_photos(f"{tmp_path}/{pattern}")) == ["photos/b.png"]


def test_photos_in_the_output_folder_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/x.jpg", "sub/notes.txt")
    unread: Counter[str] = Counter()
    found = find_photos(str(tmp_path), output=str(tmp_path / "sub"), unread=unread)
    assert names_of(found) == ["a.jpg"]
    assert count_kinds(unread) == "1 photo in the output folder"


def test_an_input_that_is_a_folder_of_results_is_named(tmp_path: Path) -> None:
    make(tmp_path, ".records/-settings.json", "photos/001.jpg")
    with pytest.raises(CrackError, match=rf"holds no photos .*1 folder of results \({tmp_path}\)"):
        find_photos(str(tmp_path))


def test_a_pipe_is_counted_and_not_read(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere")  # which is said when it cannot be read
    unread: Counter[str] = Counter()
    assert names_of(find_photos(str(tmp_path), unread=unread)) == ["a.jpg", "lost.jpg"]
    assert count_kinds(unread) == "1 pipe, device or linked folder"


def test_a_folder_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "closed/b.jpg")
    find = (
        "import sys, collections, crack_data.storage as s; unread = collections.Counter(); "
        "print(*[x.file_name for x in s.find_photos(sys.argv[1], unread=unread)], *unread.items())"
    )
    command = [*as_ordinary_user(), sys.executable, "-c", find]
    (tmp_path / "closed").chmod(0)
    try:
        for pattern in (str(tmp_path), f"{tmp_path}*"):
            done = subprocess.run([*command, pattern], capture_output=True, text=True, check=True)
            assert done.stdout.endswith("a.jpg ('folder without access', 1)\n")
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_photos_are_sorted_whatever_the_order_of_the_inputs(tmp_path: Path) -> None:
    make(tmp_path, "b/x.jpg", "a/y.jpg")
    assert names_of(find_photos(str(tmp_path / "b"), str(tmp_path / "a"))) == ["y.jpg", "x.jpg"]


def test_links_to_photos_count(tmp_path: Path) -> None:
    make(tmp_path, "kept/a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.png").symlink_to(tmp_path / "kept" / "a.png")
    assert names_of(find_photos(str(tmp_path / "set"))) == ["b.png"]


def test_a_file_may_have_any_suffix_brackets_and_colons(tmp_path: Path) -> None:
    make(tmp_path, "photo[1]", "set[2]/x.png", "12::30/y::z.png")
    assert names_of(find_photos(str(tmp_path / "photo[1]"))) == ["photo[1]"]
    assert names_of(find_photos(str(tmp_path / "set[2]"))) == ["x.png"]
    assert names_of(find_photos(str(tmp_path / "12::30"))) == ["y::z.png"]
    [photo] = find_photos(str(tmp_path / "12::30" / "y::z.png"))
    assert storage.read_bytes(photo.path) == (tmp_path / "12::30" / "y::z.png").read_bytes()


@pytest.mark.parametrize("pattern", ["absent", "absent.jpg", "*.jpg", "empty"])
def test_nothing_there_is_one_sentence(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CrackError, match=r"does not exist|holds no photos"):
        find_photos(str(tmp_path / pattern))


@pytest.mark.parametrize("path", ["nosuch://bucket/a.jpg", "nosuch://bucket"])
def test_an_unknown_storage_is_one_sentence(path: str) -> None:
    with pytest.raises(CrackError, match="nosuch"):
        find_photos(path)


def test_a_damaged_storage_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("not an archive")
    with pytest.raises(CrackError, match=r"no\.zip cannot be read: .*not a zip"):
        find_photos(f"zip://a.jpg::{tmp_path}/no.zip")


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out"


def test_files_go_in_and_out(folder: str) -> None:
    assert storage.list_files(folder) == {}
    storage.write_bytes(posixpath.join(folder, "a.json"), b"one")
    storage.write_bytes(posixpath.join(folder, "a.json"), b"two")
    storage.write_bytes(posixpath.join(folder, ".records/b.json"), b"three")
    assert storage.read_bytes(posixpath.join(folder, "a.json")) == b"two"
    assert storage.list_files(folder) == {"a.json": 3, ".records/b.json": 5}
    for name in ("a.json", ".records", ".records"):
        storage.remove(posixpath.join(folder, name))
    assert storage.list_files(folder) == {}


def test_a_path_object_is_local_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~/a", "memory:/b"):
        storage.write_bytes(Path(name), b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_absent_files_are_named(folder: str) -> None:
    with pytest.raises(CrackError, match=r"absent\.jpg"):
        storage.read_bytes(posixpath.join(folder, "absent.jpg"))
