"""Words that the model never met, read half through the name it knows that is nearest.

A region of a building has learned to lie near "building", and only by chance near "edifice": beside "street", which
sentence vectors put nearer to all buildings, the unusual word loses. So the vector of such a word moves towards the
trained name it stands for. Which one that is, both sides must agree on: the name is the nearest of all that were
trained, and the word is the nearest to it of all that are asked for. With "dog" in the list, "cat" is never read as a dog.

Whether the trained class still competes in silence is another question (background.py), and takes more likeness: a
"driver" is read towards "automobile", but does not take the cars' pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .centring import mean_of, unit

# Share of the trained name in what a word becomes. Chosen on the tuning split of `ovs-bench ablation`, two models: mean
# IoU of seen classes under new words 29.8 as they are, 47.6 / 49.2 / 49.9 with 0.5 / 0.6 / 0.7. The more it is, the less is
# left of what is new in a word.
SHARE = 0.6
# Cosine, means taken off, below which a word is read as it stands. At 0.3 "edifice" still is a building (0.31), and a
# violin no tennis racket (0.27). Sentence vectors know no better: "driver" is as near to "car" (0.39).
LEAST = 0.3


def read_words(words: npt.NDArray[np.float32], trained: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`words` (M, D) as the model should see them, given the names it was `trained` with (N, D). All vectors are unit."""
    read = words.copy()
    for word, row in enumerate(spoken_for(words, trained)):
        if row is not None and not np.array_equal(trained[row], words[word]):
            read[word] = unit(SHARE * trained[row] + (1 - SHARE) * words[word])
    return read


def spoken_for(words: npt.NDArray[np.float32], trained: npt.NDArray[np.float32]) -> list[int | None]:
    """For each of `words` (M, D) the row of `trained` (N, D) that it stands for, if any.

    A word that is itself a trained name speaks for that name. Too few trained names tell nothing.
    """
    mean = mean_of(trained)
    if mean is None or not len(words):
        return [None] * len(words)
    # Not `@`: for so little work BLAS spends ten times longer waking threads that the network keeps busy.
    nearness = np.einsum("nd,md->nm", unit(trained - mean), unit(words - mean))
    nearest, speaker = nearness.argmax(axis=0), nearness.argmax(axis=1)
    return [
        row if speaker[row] == word and nearness[row, word] >= LEAST else None
        for word, row in enumerate(nearest.tolist())
    ]
