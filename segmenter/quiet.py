"""Libraries that say on their own what an error of this package says, or what does not matter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_logs_or_warnings() -> Iterator[None]:
    """Within the block no logger and no warning of any library is heard. Progress bars are neither."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
