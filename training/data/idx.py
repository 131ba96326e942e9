"""IDX, the file format of MNIST and of the sets made after it: gzipped arrays of unsigned bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.errors import DataError


def images(path: Path) -> npt.NDArray[np.uint8]:
    """(N, 1, H, W)."""
    return parse_idx(gunzip(path.read_bytes(), path.name), 3, path.name)[:, None]


def labels(path: Path) -> npt.NDArray[np.int64]:
    """(N,)."""
    return parse_idx(gunzip(path.read_bytes(), path.name), 1, path.name).astype(np.int64)


def gunzip(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: not a whole gzip file ({error})") from error


def parse_idx(data: bytes, ndim: int, name: str) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes: two zero bytes, type 8, the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values and nothing else."""
    magic = bytes((0, 0, 8, ndim))
    if data[:4] != magic:
        raise DataError(f"{name}: starts with {data[:4].hex(' ')}, not with {magic.hex(' ')}")
    start = 4 + 4 * ndim
    if len(data) < start:
        raise DataError(f"{name}: ends within its header ({len(data)} of {start} bytes)")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=ndim, offset=4))
    if len(data) - start != math.prod(shape):
        raise DataError(f"{name}: holds {len(data) - start} values, but its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
