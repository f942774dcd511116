"""Names to text vectors on the device: tokenizer, exported text encoder, prompt templates, cache.

Prompt ensembling follows CLIP (Radford et al. 2021, section 3.1.4): each name is put into every template, the vectors
are made unit, averaged, and made unit again.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError
from ...bundle.manifest import TEXT_ENCODER, TOKENIZER, VECTORS
from ..engines.onnx_runtime import open_graph
from .cache import VectorCache
from .centring import unit

_MOST_BYTES = 64 * 2**20  # of tokenizer.json; a real one has some million
_BATCH = 16  # prompts per run; larger ones gain nothing on a small CPU and cost memory

Floats = npt.NDArray[np.float32]


def clean(text: str, how: str) -> str:
    """Prepare a prompt for the tokenizer: "clip" repairs and collapses as open_clip does, "none" leaves it."""
    if how == "none":
        return text
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


class TextEncoder:
    """Names -> unit vectors (N, D). Tokenizer and graph are loaded when the first unknown name is asked for."""

    def __init__(
        self, bundle: Bundle, threads: int = 0, cache_folder: Path | None = None, *, keep: bool = True
    ) -> None:
        """`keep` False: names and their vectors stay in memory, and no file tells later what was asked for."""
        self._path = bundle.path
        self._spec = bundle.manifest.text
        self._threads = threads
        self._tokens: Any = None  # tokenizer and session, once they are loaded
        self._session: Any = None
        # The bundle's digest covers its files; templates and cleaning stand in the manifest and change vectors too.
        depends = json.dumps([bundle.digest, self._spec.templates, self._spec.cleaning, self._spec.output])
        key = hashlib.sha256(depends.encode()).hexdigest()[:32]
        bundled = bundle.path / VECTORS if VECTORS in bundle.manifest.digests else None
        self._cache = VectorCache(key, self._spec.dim, cache_folder, bundled, keep=keep)

    def encode(self, names: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Floats:
        """Unit vectors (N, D) of `names`. `progress(done, total)` is called with the number of prompts encoded.

        Raises `BundleError` when the encoder or the tokenizer does not do what the manifest says.
        """
        if not names:
            return np.zeros((0, self._spec.dim), np.float32)
        vectors = {name: self._cache[name] for name in names if name in self._cache}
        unknown = [name for name in dict.fromkeys(names) if name not in vectors]
        if unknown:
            encoded = self._ensemble(unknown, progress)
            vectors.update(zip(unknown, encoded, strict=True))
            self._cache.add(unknown, encoded)
        return np.stack([vectors[name] for name in names])

    def tokens(self, name: str) -> list[str | None]:
        """The tokens of a name, without marks and padding; None for one that is unknown. Raises `BundleError`."""
        tokenizer = self._tokenizer()
        (encoding,) = self._tokenized(tokenizer, [clean(name, self._spec.cleaning)])
        unknown = tokenizer.token_to_id("[UNK]")
        parts = zip(encoding.tokens, encoding.ids, encoding.special_tokens_mask, encoding.attention_mask, strict=True)
        # An unknown word may be marked as special, too.
        return [
            None if number == unknown else token
            for token, number, special, attended in parts
            if attended and (number == unknown or not special)
        ]

    def preload(self) -> None:
        """Load tokenizer and graph now. Raises `BundleError`."""
        self._load()

    def _ensemble(self, names: list[str], progress: Callable[[int, int], None] | None) -> Floats:
        templates = self._spec.templates or ("{}",)
        # Not str.format: a name may hold braces.
        prompts = [template.replace("{}", name) for name in names for template in templates]
        prompts = [clean(prompt, self._spec.cleaning) for prompt in prompts]
        rows = []
        for start in range(0, len(prompts), _BATCH):
            rows.append(self._run(prompts[start : start + _BATCH]))
            if progress is not None:
                progress(min(start + _BATCH, len(prompts)), len(prompts))
        vectors = unit(np.concatenate(rows)).reshape(len(names), len(templates), self._spec.dim)
        return unit(vectors.mean(axis=1))

    def _run(self, prompts: list[str]) -> Floats:
        tokenizer, session = self._load()
        encodings = self._tokenized(tokenizer, prompts)
        lengths = {len(encoding.ids) for encoding in encodings}
        if len(lengths) != 1 or not 0 < max(lengths) <= self._spec.context_length:
            raise BundleError(
                f"{self._path / TOKENIZER} gives {sorted(lengths)} tokens, expected one length of at most "
                f"{self._spec.context_length}: its padding or truncation is not set; export the bundle again"
            )
        available = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
        }
        try:
            feeds = {spec.name: np.array(available[spec.name], np.int64) for spec in self._spec.inputs}
            (vectors,) = session.run([self._spec.output], feeds)
        except Exception as error:  # the binding raises a dozen unrelated types
            raise BundleError(f"{self._path / TEXT_ENCODER} failed ({error}); export the bundle again") from error
        if vectors.shape != (len(prompts), self._spec.dim) or not np.isfinite(vectors).all():
            raise BundleError(
                f"{self._path / TEXT_ENCODER} gives {list(vectors.shape)}, expected finite "
                f"[{len(prompts)}, {self._spec.dim}]; export the bundle again"
            )
        return np.asarray(vectors, np.float32)

    def _load(self) -> tuple[Any, Any]:
        if self._session is None:
            # Always on the CPU: a few names are not worth a GPU's memory, and must not delay the segmenter's stream.
            self._session = open_graph(self._path / TEXT_ENCODER, self._threads, "cpu", arena=False)
        return self._tokenizer(), self._session

    def _tokenizer(self) -> Any:
        if self._tokens is None:
            path = self._path / TOKENIZER
            check_tokenizer(path, self._spec.context_length)
            try:
                self._tokens = Tokenizer.from_file(str(path))
            except Exception as error:  # the binding raises bare Exception
                raise BundleError(f"cannot read {path} ({error}); export the bundle again") from error
        return self._tokens

    def _tokenized(self, tokenizer: Any, prompts: list[str]) -> list[Any]:
        try:
            return list(tokenizer.encode_batch(prompts))
        except Exception as error:  # the binding raises bare Exception
            raise BundleError(
                f"{self._path / TOKENIZER} does not tokenise {prompts[0][:40]!r} ({error}); export the bundle again"
            ) from error


def check_tokenizer(path: Path, context_length: int) -> None:
    """Raise `BundleError` for a tokenizer whose size, padding or truncation would take memory without bounds."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BundleError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; export the bundle again")
        settings = json.loads(path.read_bytes())
        padding, truncation = settings.get("padding") or {}, settings.get("truncation") or {}
        strategy = padding.get("strategy")
        lengths = [
            strategy.get("Fixed", 0) if isinstance(strategy, dict) else 0,
            padding.get("pad_to_multiple_of") or 0,
            truncation.get("max_length", 0),
        ]
        longest = max(lengths)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"cannot read {path} ({error}); export the bundle again") from error
    if longest > context_length:
        raise BundleError(
            f"{path} pads or cuts to {longest} tokens, expected at most {context_length}; export the bundle again"
        )
