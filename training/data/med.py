"""Colour pictures as xz-compressed residuals of the median predictor of JPEG-LS; lossless.

The file holds the residuals, modulo 256, as (plane, image, row, column), with the planes G, R - G
and B - G. Each pixel is predicted from its left, upper and upper-left neighbours: by the median of
left, upper, and left + upper - upper-left.
"""

import lzma

import numpy as np
import numpy.typing as npt

from training.errors import DataError

Pixels = npt.NDArray[np.uint8]

# Pictures decoded at a time: few enough for a row of all of them to stay in the processor's cache.
CHUNK = 2000


def decode(data: bytes, count: int, shape: tuple[int, ...], name: str) -> Pixels:
    """(count, 3, H, W), in RGB. Raises DataError."""
    try:
        residuals = np.frombuffer(lzma.decompress(data), np.uint8)
    except lzma.LZMAError as error:
        raise DataError(f"{name}: not a whole xz file ({error})") from error
    channels, height, width = shape
    if residuals.size != channels * count * height * width:
        raise DataError(f"{name}: holds {residuals.size} values instead of {count} x {shape}")
    by_plane = residuals.reshape(channels, count, height, width)
    pictures = np.empty((count, *shape), np.uint8)
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        green, red, blue = (_undo(plane[rows]) for plane in by_plane)
        for channel, plane in enumerate((red + green, green, blue + green)):  # wraps around
            pictures[rows, channel] = plane
    return pictures


def _undo(residuals: Pixels) -> Pixels:
    """One plane (N, H, W) of residuals to its values."""
    r = np.ascontiguousarray(residuals.transpose(1, 2, 0))  # (H, W, N)
    values = np.empty_like(r)
    for i, j in np.ndindex(r.shape[0], r.shape[1]):
        values[i, j] = r[i, j] + _predict(values, i, j)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _predict(values: Pixels, i: int, j: int) -> Pixels:
    """(N,), from the neighbours that there are; 0 for the first pixel."""
    left: Pixels = values[i, j - 1] if j else np.zeros_like(values[0, 0])
    upper: Pixels = values[i - 1, j] if i else np.zeros_like(values[0, 0])
    if i == 0 or j == 0:
        return left if j else upper
    plane = left.astype(np.int16) + upper - values[i - 1, j - 1]
    median: Pixels = np.clip(plane, np.minimum(left, upper), np.maximum(left, upper)).astype(
        np.uint8
    )
    return median
