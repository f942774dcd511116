"""Out-of-vocabulary names: moved half-way towards the nearest trained name.

The regions of a class were trained to lie near its names, and only by chance near other names for it. A building's
regions lie near "building"; beside "street", which sentence vectors put nearer to all buildings, "edifice" loses. So
the vector of an out-of-vocabulary name is moved towards the trained name it stands for. That choice must be mutual: the
trained name is the nearest of all trained ones, and no other name that is asked for is nearer to it. With "dog" in the
list, "cat" is never read as "dog".

Whether the trained class still is one of the background classes is another question (background.py), and takes more
likeness: "driver" is read towards "automobile", but cars still are background.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .centring import mean_of, unit

# Share of the trained name in what a name becomes. Chosen on the tuning split of `ovs-bench ablation`, two models: mean
# IoU of seen classes under new names is 29.8 with the names as they are, and 47.6 / 49.2 / 49.9 with 0.5 / 0.6 / 0.7. A
# larger share leaves less of what is specific to the name.
SHARE = 0.6
# Cosine, means taken off, below which a name is left as it is. At 0.3, "edifice" still is a building (0.31), and a
# violin no tennis racket (0.27). Sentence vectors are no finer than that: "driver" is as near to "car" (0.39).
LEAST = 0.3


def read_words(words: npt.NDArray[np.float32], trained: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors of `words` (M, D), each moved towards the one of the `trained` names (N, D) it stands for; all unit."""
    read = words.copy()
    for word, row in enumerate(trained_name_of(words, trained)):
        if row is not None and not np.array_equal(trained[row], words[word]):
            read[word] = unit(SHARE * trained[row] + (1 - SHARE) * words[word])
    return read


def trained_name_of(words: npt.NDArray[np.float32], trained: npt.NDArray[np.float32]) -> list[int | None]:
    """For each of `words` (M, D) the row of `trained` (N, D) that it stands for, if any.

    A word that is itself a trained name stands for that name. With too few trained names, no word stands for any.
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
