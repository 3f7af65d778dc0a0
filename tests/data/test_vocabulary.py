"""Vocabularies map ids to codes and back, and tell by a hash whether two agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.vocabulary import Vocabulary

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), unique=True, max_size=20)


@settings(max_examples=50, deadline=None)
@given(ids=IDS)
def test_codes_and_ids_are_inverse_and_survive_a_file(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    vocabulary = Vocabulary(ids)
    assert vocabulary.codes(ids).tolist() == list(range(len(ids)))
    assert vocabulary.ids(range(len(ids))) == ids
    folder = tmp_path_factory.mktemp("vocabulary")
    vocabulary.save(folder, "items")
    loaded = Vocabulary.load(folder, "items")
    assert loaded == vocabulary
    assert loaded.all_ids.tolist() == ids


@settings(max_examples=50, deadline=None)
@given(one=IDS, other=IDS)
def test_two_vocabularies_have_one_hash_only_if_they_are_the_same(one: list[str], other: list[str]) -> None:
    assert (Vocabulary(one).hash == Vocabulary(other).hash) == (one == other)


def test_where_ids_are_cut_counts_for_the_hash() -> None:
    assert Vocabulary(["a\0b"]).hash != Vocabulary(["a", "b"]).hash


def test_an_unknown_id_has_no_code() -> None:
    vocabulary = Vocabulary(["tea", "cup"])
    assert vocabulary.codes(["hat", "cup", None]).tolist() == [-1, 1, -1]
    assert vocabulary.code("hat") == -1
    assert "hat" not in vocabulary


@pytest.mark.parametrize("code", [-1, 2])
def test_a_code_that_no_id_has_is_an_error_and_not_another_id(code: int) -> None:
    with pytest.raises(DataError, match=f"code {code} stands for no id"):
        Vocabulary(["tea", "cup"]).ids(np.array([0, code]))


def test_an_id_there_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"tea.*twice"):
        Vocabulary(["tea", "cup", "tea"])


def test_the_order_of_ids_counts() -> None:
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
