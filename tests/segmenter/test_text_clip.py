"""CLIP's text side: the transformer against open_clip's, the tokenizer file against open_clip's tokenizer."""

from __future__ import annotations

import dataclasses
import unicodedata

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from support import exported
from tokenizers import Tokenizer

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.export.text_encoder.graph import export_text, text_spec
from ovs_edge.export.text_encoder.parity import HARD, words
from ovs_edge.runtime.vocabulary.text_encoder import clean
from ovs_edge.segmenter.config import TextConfig, gkc_r50
from ovs_edge.segmenter.text.clip_text import ClipText, clip_text, load_clip_text, text_state
from ovs_edge.segmenter.text.encoder import TorchTextEncoder
from ovs_edge.segmenter.text.tokenizers import clean_clip, clip_tokenizer

CONFIG = gkc_r50().text
SMALL = dataclasses.replace(CONFIG, layers=2, width=64, heads=2, dim=32)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    # As the runtime gets it: through the file's text.
    return Tokenizer.from_str(clip_tokenizer(CONFIG).to_str())


@pytest.fixture(scope="module")
def published() -> SimpleTokenizer:
    return SimpleTokenizer()


def encoder(config: TextConfig) -> TorchTextEncoder:
    torch.manual_seed(0)
    return TorchTextEncoder(config, ClipText(config), clip_tokenizer(config))


def padded(ids: list[int]) -> list[int]:
    """As open_clip pads: with zeros, to the whole context."""
    return ids + [0] * (CONFIG.context_length - len(ids))


@pytest.mark.parametrize("quick", [False, True])
def test_transformer_computes_open_clips_vectors(published: SimpleTokenizer, *, quick: bool) -> None:
    torch.manual_seed(0)
    theirs = open_clip.create_model("RN50", pretrained=None, force_quick_gelu=quick).eval()
    ours = clip_text(dataclasses.replace(CONFIG, quick_gelu=quick), text_state(theirs.state_dict()), "test")
    ids = published([*HARD[:12], "a photo of a cat.", "word " * 100])
    with torch.no_grad():
        expected, found = theirs.encode_text(ids), ours(ids)
        # What follows the longest text's end mark may be left out.
        cut = ours(ids[:12, : int(ids[:12].argmax(-1).max()) + 1])
    assert found.shape == (14, 1024)
    assert (found - expected).abs().max() <= 1e-5
    assert (cut - expected[:12]).abs().max() <= 1e-5


def test_weights_that_do_not_fit() -> None:
    state = ClipText(SMALL).state_dict()
    with pytest.raises(CheckpointError, match=r"ln_final\.bias"):
        clip_text(SMALL, {key: value for key, value in state.items() if key != "ln_final.bias"}, "a.pt")
    with pytest.raises(CheckpointError, match="not a dict of tensors"):
        clip_text(SMALL, {"ln_final.bias": 3}, "a.pt")  # type: ignore[dict-item]


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"RN50/openai.*no route to host") as caught:
        load_clip_text(CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", HARD)
def test_hard_strings(text: str, tokenizer: Tokenizer, published: SimpleTokenizer) -> None:
    assert padded(tokenizer.encode(clean(text, "clip")).ids) == published(text)[0].tolist()


def test_every_character(tokenizer: Tokenizer, published: SimpleTokenizer) -> None:
    """Each assigned character of the common planes, in the middle of a word and after an apostrophe."""
    texts = [
        f"a{chr(code)}B '{chr(code)}"
        for code in (*range(0x3000), *range(0x3000, 0x20000, 23))
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    ]
    found = tokenizer.encode_batch([clean(text, "clip") for text in texts])
    expected = published(texts).tolist()
    assert [text for text, one, row in zip(texts, found, expected, strict=True) if padded(one.ids) != row] == []


# Characters that this Python knows: libraries carry tables of other Unicode versions, and class the rest differently.
known = st.characters(codec="utf-8", exclude_categories=("Cn", "Cs", "Co"))


@settings(max_examples=500, deadline=None)
@given(text=st.text(known, max_size=60) | st.text("aΣ'sSdDİıßſ é&<>;#1½\u0345\u0301", max_size=20))
def test_any_text(text: str, tokenizer: Tokenizer, published: SimpleTokenizer) -> None:
    assert padded(tokenizer.encode(clean(text, "clip")).ids) == published(text)[0].tolist()


@given(text=st.text(known))
def test_both_sides_clean_alike(text: str) -> None:
    assert clean_clip(text) == clean(text, "clip")


def test_prompts_are_averaged_as_clip_does() -> None:
    ours = encoder(SMALL)
    names = ["cat", "{} braces {0}", "traffic light"]
    found = ours.encode(names)
    assert found.shape == (3, 32)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    prompts = [template.replace("{}", "cat") for template in SMALL.templates]
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(ours.model(*ours.tokenize(prompts)), dim=-1)
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(vectors.mean(0), dim=-1))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_exported_graph(precision: str) -> None:
    ours = encoder(SMALL)
    model = export_text(ours, precision)  # type: ignore[arg-type]
    session = exported.session(model)
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("input_ids", ["N", "L"])]
    names = words(ours.tokenizer, 50)
    for texts in (names, names[:1], [*names[:3], "word " * 100]):
        (ids,) = ours.tokenize(texts)
        (found,) = session.run(None, {"input_ids": ids.numpy()})
        with torch.no_grad():
            expected = ours.model(ids).numpy()
        assert found.shape == (len(texts), 32)
        if precision == "fp32":
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            assert model.ByteSize() < 0.3 * sum(p.numel() * 4 for p in ours.model.parameters())
            cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
            assert cosine.mean() >= 0.99


def test_manifest_entry() -> None:
    spec = text_spec(encoder(SMALL))
    assert (spec.encoder, spec.dim, spec.context_length, spec.cleaning) == ("clip", 32, 77, "clip")
    assert [(entry.name, entry.shape) for entry in spec.inputs] == [("input_ids", ("N", "L"))]
