"""Words that were never trained, read through the trained name that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.vocabulary.centring import unit
from ovs_edge.runtime.vocabulary.out_of_vocabulary import SHARE, read_words, trained_name_of


def _names(count: int = 12, dim: int = 32) -> np.ndarray:
    """Unit vectors, alike as prompts are: a common part, and one of their own."""
    own = unit(np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32))
    return unit(own + 0.7 * unit(own.sum(0, keepdims=True)))


def _near(name: np.ndarray, seed: int, far: float = 0.6) -> np.ndarray:
    noise = unit(np.random.default_rng(seed).standard_normal((1, len(name))).astype(np.float32))[0]
    return unit((name + far * noise)[None])[0]


def test_a_word_moves_towards_the_name_it_stands_for() -> None:
    trained = _names()
    word = _near(trained[3], 1)
    read, rows = read_words(word[None], trained), trained_name_of(word[None], trained)
    assert rows == [3]
    assert np.allclose(read[0], unit((SHARE * trained[3] + (1 - SHARE) * word)[None])[0], atol=1e-6)
    assert read[0] @ trained[3] > word @ trained[3] + 0.05


def test_of_two_words_the_nearer_one_speaks_for_a_name() -> None:
    trained = _names()
    words = np.stack([_near(trained[3], 1, 0.7), _near(trained[3], 2, 0.2)])
    read, rows = read_words(words, trained), trained_name_of(words, trained)
    assert rows == [None, 3]
    assert np.array_equal(read[0], words[0])


def test_trained_names_stay_what_they_are_and_keep_others_off() -> None:
    trained = _names()
    words = np.stack([trained[3], _near(trained[3], 1, 0.3)])
    read, rows = read_words(words, trained), trained_name_of(words, trained)
    assert rows == [3, None]
    assert np.array_equal(read, words)


def test_far_words_and_few_names_change_nothing() -> None:
    trained = _names()
    far = -trained.mean(0, keepdims=True)
    assert trained_name_of(far, trained) == [None]
    word = _near(trained[3], 1)[None]
    read, rows = read_words(word, trained[:5]), trained_name_of(word, trained[:5])
    assert rows == [None] and np.array_equal(read, word)
    assert trained_name_of(word[:0], trained) == []


@given(st.integers(1, 9), st.integers(0, 2**16))
def test_every_name_is_trained_name_of_once_and_vectors_stay_unit(count: int, seed: int) -> None:
    words = unit(np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32))
    read, rows = read_words(words, _names()), trained_name_of(words, _names())
    taken = [row for row in rows if row is not None]
    assert len(rows) == count and len(set(taken)) == len(taken)
    assert np.allclose(np.linalg.norm(read, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_a_kitten_is_half_read_as_a_cat(exact: bool) -> None:
    """In the embedded model, whose training knew cats; and the silent cat does not compete with it."""
    with Segmenter.load(exact_words=exact) as segmenter:
        asked = segmenter.set_classes("cat,kitten,lawn")
        cat, kitten, _ = asked.vocabulary.vectors[:3, 0]
        both = float(cat @ kitten)
        alone = segmenter.set_classes("kitten,lawn")
    vector = alone.vocabulary.vectors[0, 0]
    silent = {name for entry in alone.vocabulary.classes[alone.shown :] for name in entry.names}
    assert "cat" not in silent and "dog" in silent
    if exact:
        assert np.array_equal(vector, kitten)
    else:
        assert vector @ cat > both + 0.05


def test_background_names_keep_words_off_too() -> None:
    with Segmenter.load(background="cat") as segmenter:
        asked = segmenter.set_classes("kitten,lawn")
    kitten, cat = asked.vocabulary.vectors[0, 0], asked.vocabulary.vectors[2, 0]
    with Segmenter.load(exact_words=True) as segmenter:
        exact = segmenter.set_classes("kitten,cat").vocabulary.vectors[:2, 0]
    assert np.array_equal(np.stack([kitten, cat]), exact)


def test_a_word_is_read_towards_its_company_which_still_competes() -> None:
    """Vectors do not tell likeness from company: a driver must not take the cars' pixels."""
    with Segmenter.load() as segmenter:
        asked = segmenter.set_classes("driver")
    with Segmenter.load(exact_words=True) as segmenter:
        exact = segmenter.set_classes("driver")
    assert not np.allclose(asked.vocabulary.vectors[0], exact.vocabulary.vectors[0], atol=0.01)
    silent = {name for entry in asked.vocabulary.classes[asked.shown :] for name in entry.names}
    assert {"automobile", "car"} <= silent
