"""How much of the GPUs this process holds, before and after a version is loaded or released."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from serving.config import Placement
from serving.nvml import NoNvml, Nvml

logger = logging.getLogger("penstock.load")

_MIB: Final = 1024 * 1024


@contextmanager
def told(what: str, places: Sequence[Placement]) -> Iterator[None]:
    """Log what is held before and after, if any of `places` is a GPU and NVML tells.

    It counts for the whole process: of what is loaded at the same time it shows the sum.
    """
    concerned = any(place.gpu is not None for place in places)
    before = held() if concerned else None
    yield
    after = held() if concerned else None
    if before is not None and after is not None:
        logger.info(
            "%s: GPU memory of this process: %d MiB before, %d MiB after",
            what,
            before // _MIB,
            after // _MIB,
        )


def held() -> int | None:
    """The bytes of all GPUs that this process holds; None where nothing tells."""
    nvml = _nvml()
    if nvml is None:
        return None
    figures = [nvml.held(gpu, os.getpid()) for gpu in nvml.gpus()]
    # The driver lists a process from its first use of a GPU on; one that it never lists is not
    # known to it by this number.
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


@lru_cache
def _nvml() -> Nvml | None:
    try:
        return Nvml()
    except NoNvml:
        return None
