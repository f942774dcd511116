"""Tokenizers as `tokenizer.json` files, so that a device needs neither open_clip nor torch to read words."""

from __future__ import annotations

import gzip
import html
import importlib.util
from pathlib import Path

import ftfy
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from ...bundle.errors import MissingExtraError
from ..config import TextConfig
from .minilm import package_folder

START, END = "<start_of_text>", "<end_of_text>"
_SUFFIX = "</w>"
_MERGES = 49152 - 256 - 2
# open_clip's pattern: contractions, runs of letters, single digits, runs of anything else. Its flag IGNORECASE
# matters even after lower-casing: it takes the long s for an s, and leaves the iota below (U+0345) to neither class.
_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"
# Python lower-cases a sigma at the end of a word to its final form, the tokenizer's own rule does not.
_FINAL_SIGMA = r"[\p{Cased}&&[^\p{Case_Ignorable}]]\p{Case_Ignorable}*\KΣ(?!(?>\p{Case_Ignorable}*)\p{Cased})"


def clip_tokenizer(config: TextConfig) -> Tokenizer:
    """CLIP's byte-pair encoding; cleaned text in, `context_length` ids out, padded with 0.

    "Cleaned" is what `clean_clip` does, and the runtime's own function.
    """
    merges = _clip_merges()
    alphabet = _byte_alphabet()
    tokens = [*alphabet, *(token + _SUFFIX for token in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_SUFFIX))
    # Found after lower-casing, as open_clip does.
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=True) for token in (START, END)])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    tokenizer.enable_truncation(config.context_length)
    # To the longest of a batch: open_clip pads to the whole context, which changes no vector and takes longer.
    tokenizer.enable_padding(pad_id=0, pad_token=tokens[0])
    return tokenizer


def clean_clip(text: str) -> str:
    """What open_clip does before its tokenizer, but for the lower case: mojibake repaired, HTML entities unescaped
    twice, white space collapsed."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def minilm_tokenizer(config: TextConfig) -> Tokenizer:
    """The packaged word-piece tokenizer; ids padded to the longest of a batch, far shorter than the context."""
    tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(config.context_length)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return tokenizer


def _clip_merges() -> list[tuple[str, str]]:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "CLIP's merges come with the package open_clip_torch, which is not installed; it is in the extra 'train': "
            "pip install 'ovs-edge[train]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    pairs = [line.split() for line in lines[1 : _MERGES + 1]]
    return [(first, second) for first, second in pairs]


def _byte_alphabet() -> list[str]:
    """A printable character for each byte, GPT-2's choice, in the order of CLIP's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]
