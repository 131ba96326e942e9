"""Image files to the raw pixels that a model takes."""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, TensorSpec

FORMATS: Final = ("PNG", "JPEG", "WEBP")
# A small file can announce a picture that fills the memory; no camera makes a larger one.
MAX_PIXELS: Final = 64 * 1024 * 1024
_MODES: Final = {1: "L", 3: "RGB"}


def decode(content: bytes, spec: TensorSpec, layout: str) -> Array:
    """The picture in the shape of one example of `spec` (dims without the batch), UINT8.

    It is turned upright, put on white where it is transparent, converted to the model's channels
    and resized to its height and width. `layout` is config.pbtxt's format, such as FORMAT_NCHW;
    FORMAT_NONE lets the place of the channels follow from the dims. Raises InvalidArgument.
    """
    channels, height, width, channels_first = _geometry(spec, layout)
    picture = _open(content).convert(_MODES[channels])
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
    if channels_first:
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels).reshape(spec.dims)


def _open(content: bytes) -> Image.Image:
    try:
        picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise InvalidArgument(
                f"the image has {picture.width} x {picture.height} pixels; "
                f"expected at most {MAX_PIXELS} in all"
            )
        picture = ImageOps.exif_transpose(picture)
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        picture.load()
    except InvalidArgument:
        raise
    except Exception as error:  # a decoder may raise anything on broken data
        raise InvalidArgument(
            f"the body is not a readable image: {error}; expected {', '.join(FORMATS)}"
        ) from None
    return picture


def _geometry(spec: TensorSpec, layout: str) -> tuple[int, int, int, bool]:
    """Channels, height, width, and whether the channels come first."""
    dims = spec.dims
    if spec.datatype is Datatype.UINT8 and -1 not in dims:
        if len(dims) == 2:
            return 1, dims[0], dims[1], False
        if len(dims) == 3 and layout != "FORMAT_NHWC" and dims[0] in _MODES:
            return dims[0], dims[1], dims[2], True
        if len(dims) == 3 and layout != "FORMAT_NCHW" and dims[2] in _MODES:
            return dims[2], dims[0], dims[1], False
    raise InvalidArgument(
        f"input '{spec.name}' is {spec.datatype.wire} {list(dims)}, which no image can fill; "
        "send a JSON list instead"
    )
