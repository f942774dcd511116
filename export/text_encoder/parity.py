"""Parity of the text encoder's graph and the tokenizer file with their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from tokenizers import Tokenizer

from ...bundle.bundle import Bundle
from ...bundle.manifest import TOKENIZER
from ...runtime.vocabulary.text_encoder import TextEncoder as RuntimeText
from ...runtime.vocabulary.text_encoder import clean
from ...segmenter.text.encoder import TorchTextEncoder
from ...segmenter.text.minilm import package_folder

VECTORS = 1e-4  # largest absolute difference of an element of a unit vector, FP32
_CLIP_PROMPTS = 320  # that a CLIP text encoder is compared on, about
COSINE = 0.99  # least mean cosine, INT8

# Strings on which tokenizers differ.
HARD = (
    "", " ", "don't", "DON'T they'LL we'Ve I'M he'd it'ſ", "12345 a1b2 ½ ²", "🚲🚴‍♀️ 🇬🇧", "日本語のテスト", "한국어",
    "é e\u0301 È Ğ İ ı ß ẞ", "ΟΔΟΣ Σ ΣΑΣ ΑΣ' ΑΣ'Α", "&amp;lt;b&gt; &eacute;", "mojibake: âœ” cafÃ©",
    "ﬁ ﬂ ｆｕｌｌｗｉｄｔｈ Ⅷ",
    "tabs\tand\nlines  and\u00a0spaces\u3000", "control \x00\x07\x7f\u200b", "a\u0345b", "الغة العربية", "हिन्दी",
    "snake_case-and/slash",
    "...!?#@$%^&*()[]{}", "x" * 5000, "word " * 1000, "👍" * 100, "a <start_of_text> b <END_OF_TEXT> c",
)  # fmt: skip


@dataclass(frozen=True)
class TextParity:
    """Text graph against torch over single names; tokenizer file against its source over `HARD`."""

    precision: str  # fp32 or int8
    names: int
    vector_difference: float  # max abs over unit vectors
    mean_cosine: float
    least_cosine: float
    strings: int
    tokenizer_mismatches: int  # strings whose ids differ

    def bars(self) -> dict[str, float]:
        """The acceptance thresholds of this precision."""
        return {"vector_difference": VECTORS} if self.precision == "fp32" else {"mean_cosine": COSINE}

    def failures(self) -> list[str]:
        """Figures past their thresholds, in words."""
        found = []
        if self.precision == "fp32" and not self.vector_difference <= VECTORS:
            found.append(f"text vectors differ by {self.vector_difference:.1e}, expected at most {VECTORS:g}")
        if not self.mean_cosine >= COSINE:
            found.append(f"text vectors have a mean cosine of {self.mean_cosine:.4f}, expected at least {COSINE}")
        if self.tokenizer_mismatches:
            found.append(
                f"the tokenizer differs on {self.tokenizer_mismatches} of {self.strings} strings, expected none"
            )
        return found


def compare_text(encoder: TorchTextEncoder, runtime: RuntimeText, bundle: Bundle) -> TextParity:
    """Encode words of the tokenizer's own vocabulary on both sides, and tokenise `HARD` on both sides."""
    # Templates and a wider network make a name of CLIP's twenty to two hundred times the work of a sentence encoder's.
    clip_names = min(16, max(4, _CLIP_PROMPTS // len(encoder.config.templates)))
    names = words(encoder.tokenizer, 500 if encoder.config.kind == "minilm" else clip_names)
    expected = encoder.encode(names).numpy()
    found = runtime.encode(names)
    cosine = (found * expected).sum(1)
    tokenizer = Tokenizer.from_file(str(bundle.path / TOKENIZER))
    return TextParity(
        precision=str(bundle.manifest.provenance.get("text_precision", "fp32")),
        names=len(names),
        vector_difference=float(np.abs(found - expected).max()),
        mean_cosine=float(cosine.mean()),
        least_cosine=float(cosine.min()),
        strings=len(HARD),
        tokenizer_mismatches=len(tokenizer_mismatches(encoder, tokenizer, HARD)),
    )


def words(tokenizer: Tokenizer, count: int) -> list[str]:
    """`count` whole words of a tokenizer's vocabulary, evenly over the alphabet."""
    tokens = (token.removesuffix("</w>") for token in tokenizer.get_vocab() if not token.startswith("##"))
    known = sorted({token for token in tokens if token.isascii() and token.isalpha() and len(token) > 3})
    return known[:: max(1, len(known) // count)][:count]


def tokenizer_mismatches(encoder: TorchTextEncoder, tokenizer: Tokenizer, strings: Sequence[str]) -> list[str]:
    """Strings whose ids differ from open_clip's, or from those of the sentence encoder's own file."""
    if encoder.config.kind == "minilm":
        return _word_piece_mismatches(encoder, tokenizer, strings)
    from open_clip.tokenizer import SimpleTokenizer

    length = encoder.config.context_length
    expected = SimpleTokenizer(context_length=length)(list(strings)).tolist()  # padded with zeros to the whole context
    found = [tokenizer.encode(clean(text, encoder.cleaning)).ids for text in strings]
    return [
        text for text, ids, row in zip(strings, found, expected, strict=True) if ids + [0] * (length - len(ids)) != row
    ]


def _word_piece_mismatches(encoder: TorchTextEncoder, tokenizer: Tokenizer, strings: Sequence[str]) -> list[str]:
    """As `tokenizer_mismatches`: tokens, since an encoder may know a part of them; a word that needs another token is
    one unknown token."""
    source = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    source.no_padding()
    source.no_truncation()
    known = encoder.tokenizer.get_vocab()
    most = encoder.config.context_length

    def expected(text: str) -> list[str]:
        encoding = source.encode(text)
        tokens: list[str] = []
        for word, pieces in groupby(zip(encoding.word_ids, encoding.tokens, strict=True), itemgetter(0)):
            found = [token for _, token in pieces]
            tokens += found if word is None or all(token in known for token in found) else ["[UNK]"]
        return tokens if len(tokens) <= most else [*tokens[: most - 1], tokens[-1]]

    return [text for text in strings if expected(text) != tokenizer.encode(text).tokens]
