"""Splits are stable: by group, over sets, and when photos are added."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_data.convert.splits import (
    assign_splits,
    group_of,
    parse_shares,
    split_path,
)
from crack_data.errors import CrackError

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}
CROWD = [f"other{i}" for i in range(60)]  # among which no split is empty


def _alone(stem: str, seed: int = 0, group_by: str = "") -> str:
    """The split of a photo in a large set."""
    group = group_of(stem, group_by)
    return assign_splits([group, *CROWD], SHARES, seed)[group]


def test_shares_are_met_and_depend_on_the_seed() -> None:
    stems = [f"photo{i}" for i in range(4000)]
    first = list(assign_splits(stems, SHARES, seed=0).values())
    other = list(assign_splits(stems, SHARES, seed=1).values())
    for name, share in SHARES.items():
        assert first.count(name) / 4000 == pytest.approx(share, abs=0.03)
    assert first != other


def test_the_assignment_never_changes() -> None:
    # These are part of the format: a change would mix training and validation photos.
    assert [_alone(stem) for stem in "abcd"] == ["val", "train", "train", "test"]


@given(number=st.integers(0, 99999), crops=st.lists(st.integers(0, 9999), min_size=2))
def test_crops_of_one_photo_stay_together(number: int, crops: list[int]) -> None:
    stems = [f"{number}", *(f"SET_{number}_{crop}" for crop in crops)]
    assert len({_alone(stem, group_by=r"^(?:SET_)?(\d+)") for stem in stems}) == 1


@pytest.mark.parametrize(
    ("stem", "pattern", "group"),
    [
        ("a_1", "", "a_1"),  # no pattern
        ("a_1", r"^[a-z]", "a"),  # no group: the match
        ("a_1", r"_(\d)", "1"),  # the first group
        ("a_1", r"b", "a_1"),  # no match
        ("a_1", r"(b)?a", "a_1"),  # a group that took no part
        ("x/a_1.jpg", "", "x/a_1"),  # photos of one name in different folders
        ("x/a_1.jpg", r"^[a-z]", "a"),
    ],
)
def test_group(stem: str, pattern: str, group: str) -> None:
    assert group_of(stem, pattern) == group


def test_no_shares_no_split() -> None:
    assert assign_splits(["a"], {}) == {"a": ""}


def test_parse_shares() -> None:
    assert parse_shares("train=0.8,val=.2") == {"train": 0.8, "val": 0.2}
    assert parse_shares("") == {}


@pytest.mark.parametrize("text", ["train", "train=x", "train=.5,train=.5", "../x=1", "=1"])
def test_bad_shares_are_quoted(text: str) -> None:
    with pytest.raises(CrackError, match="--split"):
        parse_shares(text)


@pytest.mark.parametrize("text", ["a=0.5", "a=1.5,b=-0.5", "a=nan,b=0.5"])
def test_shares_must_be_positive_and_sum_to_one(text: str) -> None:
    with pytest.raises(CrackError, match="share"):
        parse_shares(text)


def test_a_broken_pattern_is_quoted() -> None:
    with pytest.raises(CrackError, match=r"--group-by '\('"):
        group_of("a", "(")


@pytest.mark.parametrize("output", ["crack.json", "crack_train.json", "crack_val.json"])
def test_names_of_the_files(output: str) -> None:
    assert split_path(Path("d") / output, "val", SHARES) == Path("d/crack_val.json")
    assert split_path(Path("d") / output, "", {}) == Path("d") / output


@given(photos=st.integers(3, 12), seed=st.integers(0, 999))
def test_no_split_stays_empty(photos: int, seed: int) -> None:
    groups = [f"photo{i}" for i in range(photos)]
    found = assign_splits(groups, SHARES, seed)
    assert set(found.values()) == set(SHARES)
    plain = [_alone(group, seed) for group in groups]
    if set(plain) == set(SHARES):
        assert [found[group] for group in groups] == plain


def test_too_few_groups_are_said() -> None:
    with pytest.raises(CrackError, match="3 sets, but the photos make only 2 groups"):
        assign_splits(["a", "b", "a"], SHARES)


def test_both_spellings_of_an_umlaut_are_one_name() -> None:
    composed, apart = "Br\u00fccke 7.jpg", "Bru\u0308cke 7.jpg"
    for pattern in ("", r"^\S+"):
        assert group_of(composed, pattern) == group_of(apart, pattern)
