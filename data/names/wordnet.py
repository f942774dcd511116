"""WordNet's noun files, as far as synonyms need them: senses of a word, their lemmas, glosses and nearest relatives.

Formats: wndb(5WN) and senseidx(5WN) of the WordNet 3.0 manual. Miller, "WordNet: A Lexical Database for English", 1995.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...bundle.errors import DatasetError

_NOUN = 1  # ss_type of a noun in a sense key
_HYPERNYM, _HYPONYM = ("@", "@i"), ("~", "~i")  # with their "instance" forms


@dataclass(frozen=True)
class Synset:
    """One sense that several words share."""

    lemmas: tuple[str, ...]  # as written, spaces for underscores: "domestic cat", "Felis catus"
    keys: tuple[str, ...]  # sense key of each lemma: "cat%1:05:00::"
    gloss: str  # definition, without its examples
    hypernyms: tuple[int, ...]  # byte offsets in data.noun: what this is a kind of
    hyponyms: tuple[int, ...]  # kinds of this


class WordNet:
    """The nouns of a WordNet 3.x dictionary folder (`index.noun`, `data.noun`)."""

    def __init__(self, folder: Path) -> None:
        try:
            self._data = (folder / "data.noun").read_bytes()
            lines = (folder / "index.noun").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DatasetError(
                f"no WordNet in {folder} ({error}); expected data.noun and index.noun: install it "
                "(Debian: apt-get install wordnet-base) and give its folder"
            ) from error
        self._index: dict[str, tuple[int, ...]] = {}
        for line in lines:
            if not line.startswith(" "):  # the licence above the entries is indented
                lemma, _, count, rest = line.split(" ", 3)
                self._index[lemma] = tuple(int(offset) for offset in rest.split()[-int(count) :])

    def senses(self, word: str) -> list[Synset]:
        """Noun senses of a word, the commonest first; none where WordNet lacks it."""
        return [self.synset(offset) for offset in self._index.get(word.casefold().replace(" ", "_"), ())]

    def sense(self, key: str) -> Synset:
        """The synset of a sense key; raises `DatasetError` when there is none."""
        for synset in self.senses(key.partition("%")[0]):
            if key in synset.keys:
                return synset
        raise DatasetError(f"this WordNet has no noun sense {key}; the sense table was made for WordNet 3.0")

    @lru_cache(maxsize=4096)  # noqa: B019  # one dictionary lives as long as the command
    def synset(self, offset: int) -> Synset:
        """The synset at a byte offset of data.noun."""
        line = self._data[offset : self._data.index(b"\n", offset)].decode("utf-8")
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        file_number, count = int(fields[1]), int(fields[3], 16)
        words = fields[4 : 4 + 2 * count : 2]
        numbers = [int(text, 16) for text in fields[5 : 5 + 2 * count : 2]]
        pointers = fields[5 + 2 * count :]
        kin: dict[str, list[int]] = {}
        for symbol, target, part in zip(pointers[0::4], pointers[1::4], pointers[2::4], strict=True):
            if part == "n":
                kin.setdefault(symbol, []).append(int(target))
        return Synset(
            tuple(word.replace("_", " ") for word in words),
            tuple(
                f"{word.casefold()}%{_NOUN}:{file_number:02d}:{number:02d}::"
                for word, number in zip(words, numbers, strict=True)
            ),
            gloss.split('; "')[0].strip(),
            tuple(offset for symbol in _HYPERNYM for offset in kin.get(symbol, ())),
            tuple(offset for symbol in _HYPONYM for offset in kin.get(symbol, ())),
        )
