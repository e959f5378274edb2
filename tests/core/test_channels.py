"""Images find the channels of a model by their names."""

from __future__ import annotations

import pytest

from diffseg.channels import doubtful, match


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (("b_t2", "b_t1ce", "b_flair", "b_t1"), ("T1", "T1ce", "T2", "FLAIR"), (3, 1, 0, 2)),
        (("case-t2f", "case-t1n", "case-t1c", "case-t2w"), ("T1", "T1ce", "T2", "FLAIR"), (1, 2, 3, 0)),
        (("p_t2_flair", "p_t1_ce", "p_t1"), ("FLAIR", "T1"), (0, 2)),
        (("a", "b"), ("T1", "T2"), (0, 1)),
        (("x", "sub_t1"), ("T1", "T2"), (1, 0)),
        (("b_t2", "b_t1", "b_flair"), ("FLAIR",), (2,)),
        (("one", "two", "three"), ("T1",), (None,)),
        (("only",), ("T1", "T2"), (None, None)),
        (("T1", "my_t1_copy"), ("T1", "T1"), (0, 1)),
        (("scan",), ("CT",), (0,)),
    ],
)
def test_channels_are_found_by_words_of_a_name_and_else_in_order(
    names: tuple[str, ...], wanted: tuple[str, ...], found: tuple[int | None, ...]
) -> None:
    assert match(names, wanted) == found


def test_a_word_within_another_is_no_match() -> None:
    assert match(("construct", "plain"), ("CT",)) == (None,)


def test_by_name_alone_nothing_is_guessed() -> None:
    assert match(("a", "t1"), ("T1", "T2"), by_order=False) == (1, None)


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (("p19_flair",), ("T1",), ("p19_flair", "FLAIR", "T1")),
        (("ct",), ("T1",), ("ct", "CT", "T1")),
        (("b_t1ce",), ("T1",), ("b_t1ce", "T1 after contrast", "T1")),
        (("t2", "t1"), ("T1", "FLAIR"), ("t2", "T2", "FLAIR")),
        (("T1w",), ("T1",), None),
        (("hippocampus_170",), ("T1",), None),
        (("flair",), ("image",), None),
    ],
)
def test_a_name_of_another_contrast_raises_a_doubt(
    names: tuple[str, ...], wanted: tuple[str, ...], found: tuple[str, str, str] | None
) -> None:
    assert doubtful(names, wanted) == found
