"""A sentence encoder with the tokens of ASCII text alone: same vectors, other scripts unknown."""

from __future__ import annotations

import pytest
import torch

from ovs_edge.bundle.errors import UsageError
from ovs_edge.export.text_encoder.parity import HARD, tokenizer_mismatches
from ovs_edge.segmenter.config import preset
from ovs_edge.segmenter.text.ascii_vocabulary import ascii_encoder
from ovs_edge.segmenter.text.encoder import TorchTextEncoder, load_text_encoder

NAMES = ["person", "traffic light", "café", "naïve Señor", "a1b2 12345", "don't", "x" * 300]


@pytest.fixture(scope="module")
def full() -> TorchTextEncoder:
    return load_text_encoder(preset("dense_mini").text)


@pytest.fixture(scope="module")
def small(full: TorchTextEncoder) -> TorchTextEncoder:
    return ascii_encoder(full)


def test_ascii_text_has_the_same_vectors(full: TorchTextEncoder, small: TorchTextEncoder) -> None:
    assert torch.equal(full.encode(NAMES), small.encode(NAMES))
    assert full.model.word_embeddings.weight.shape == (30522, 384)
    assert small.model.word_embeddings.weight.shape == (27628, 384)
    assert small.model.position_embeddings.weight.shape == (128, 384)


def test_words_of_other_scripts_are_one_unknown_token_each(small: TorchTextEncoder) -> None:
    assert small.tokenizer.encode("a Привет b").tokens == ["[CLS]", "a", "[UNK]", "b", "[SEP]"]
    assert set(small.tokenizer.encode("日本語").tokens) == {"[CLS]", "[UNK]", "[SEP]"}


def test_the_tokenizers_are_compared_word_by_word(full: TorchTextEncoder, small: TorchTextEncoder) -> None:
    assert tokenizer_mismatches(small, small.tokenizer, HARD) == []
    assert tokenizer_mismatches(full, full.tokenizer, HARD) == []
    assert "日本語のテスト" in tokenizer_mismatches(full, small.tokenizer, HARD)


def test_an_encoder_of_another_kind_is_refused(full: TorchTextEncoder) -> None:
    other = TorchTextEncoder(full.config, torch.nn.Identity(), full.tokenizer)
    with pytest.raises(UsageError, match="--text-vocabulary ascii is for the sentence encoder MiniLM"):
        ascii_encoder(other)
