"""The sentence encoder: its vectors against an independent implementation, its tokenizer, its graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import exported
from tokenizers import Tokenizer

from ovs_edge.export.text_encoder.graph import export_text, text_spec
from ovs_edge.export.text_encoder.parity import HARD, tokenizer_mismatches, words
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from ovs_edge.segmenter.text.minilm import package_folder

TEXTS = ["cat", "a photo of a traffic light", "sky", "", "🚲 bicycle", "word " * 300]


@pytest.fixture(scope="module")
def encoder() -> TorchTextEncoder:
    return load_text_encoder(mini().text)


def test_vectors_are_those_of_the_published_model(encoder: TorchTextEncoder) -> None:
    transformers = pytest.importorskip("transformers", reason="the independent BERT to compare with")
    theirs = transformers.BertModel.from_pretrained(str(package_folder())).eval()
    ids, mask = encoder.tokenize(TEXTS)
    with torch.no_grad():
        hidden = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        expected = torch.nn.functional.normalize(mean, dim=-1)
        found = encoder.model(ids, mask)
    assert (found - expected).abs().max() <= 1e-5


def test_near_names_are_near(encoder: TorchTextEncoder) -> None:
    names = ["car", "automobile", "cat", "kitten", "sky"]
    cosine = (encoder.encode(names) @ encoder.encode(names).T).numpy()
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-5)
    assert cosine[0, 1] > max(cosine[0, 2:])
    assert cosine[2, 3] > max(cosine[2, [0, 1, 4]])


def test_padding_changes_no_vector(encoder: TorchTextEncoder) -> None:
    alone = torch.cat([encoder.encode([text]) for text in TEXTS])
    assert (alone - encoder.encode(TEXTS)).abs().max() <= 1e-5


def test_tokenizer(encoder: TorchTextEncoder) -> None:
    tokenizer = Tokenizer.from_str(encoder.tokenizer.to_str())
    assert tokenizer_mismatches(encoder, tokenizer, HARD) == []
    lengths = [len(entry.ids) for entry in tokenizer.encode_batch(["cat", "traffic light"])]
    assert lengths == [4, 4]  # the longest of the batch, marks included
    assert len(tokenizer.encode("word " * 1000).ids) == 128


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_exported_graph(encoder: TorchTextEncoder, precision: str) -> None:
    model = export_text(encoder, precision)  # type: ignore[arg-type]
    session = exported.session(model)
    shapes = [(value.name, value.shape) for value in session.get_inputs()]
    assert shapes == [("input_ids", ["N", "L"]), ("attention_mask", ["N", "L"])]
    names = [*words(encoder.tokenizer, 200), *TEXTS]
    cosines = []
    for start in (0, 16, 150, 200, 205):
        texts = names[start : start + 16]
        ids, mask = encoder.tokenize(texts)
        (found,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        with torch.no_grad():
            expected = encoder.model(ids, mask).numpy()
        if precision == "fp32":
            np.testing.assert_allclose(found, expected, atol=1e-5)
        cosines.append((found * expected).sum(1))
    cosine = np.concatenate(cosines)
    print(f"{precision}: {model.ByteSize() / 1e6:.1f} MB, cosine {cosine.mean():.5f} mean, {cosine.min():.5f} least")
    assert cosine.mean() >= 0.99
    if precision == "int8":
        assert model.ByteSize() < 24e6


def test_manifest_entry(encoder: TorchTextEncoder) -> None:
    spec = text_spec(encoder)
    assert (spec.encoder, spec.dim, spec.context_length, spec.cleaning) == ("minilm", 384, 128, "none")
    assert [entry.name for entry in spec.inputs] == ["input_ids", "attention_mask"]
    assert spec.inputs[0].shape == ("N", "L")
