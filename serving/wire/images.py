"""Image files to the raw pixels that a model takes, and back."""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, TensorSpec

FORMATS: Final = ("PNG", "JPEG", "WEBP")
# A small file can announce a picture that fills the memory; no camera makes a larger one.
MAX_PIXELS: Final = 64 * 1024 * 1024
# Pillow's own limits, a warning and an error of other sizes, would get in the way of that one.
Image.MAX_IMAGE_PIXELS = None
_MODES: Final = {1: "L", 3: "RGB"}
_STRIP: Final = 256  # rows


# Of pictures that can be written, grey and in colour.
CHANNELS: Final = tuple(_MODES)


def encode(picture: Array) -> bytes:
    """A PNG of (channels, height, width): whole numbers from 0 (black) to 255 (white), or floats or
    BOOL to 1."""
    if picture.dtype != np.uint8:
        white = 255 if picture.dtype.kind in "iu" else 1
        picture = picture.astype(np.result_type(picture, np.float16), copy=False)
        picture = (np.nan_to_num(picture).clip(0, white) * (255 // white)).round().astype(np.uint8)
    pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG")
    return content.getvalue()


def decode(content: bytes, spec: TensorSpec, layout: str, field: str = "body") -> Array:
    """The picture in the shape of one example of `spec` (dims without the batch), UINT8.

    It is turned upright, put on white where it is transparent, converted to the model's channels
    and resized to its height and width. `layout` is config.pbtxt's format, such as FORMAT_NCHW;
    FORMAT_NONE lets the place of the channels follow from the dims. Raises InvalidArgument that
    names `field`.
    """
    channels, height, width, channels_first = _geometry(spec, layout)
    picture = _open(content, field).convert(_MODES[channels])
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
    if channels_first:
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels).reshape(spec.dims)


def _open(content: bytes, field: str) -> Image.Image:
    try:
        # Reads no pixels yet, so that nothing is spent on a picture that is refused.
        picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise InvalidArgument(
                f"{field}: expected an image of at most {MAX_PIXELS} pixels in all, "
                f"got {picture.width} x {picture.height}"
            )
        return _flat(picture)
    except InvalidArgument:
        raise
    except UnidentifiedImageError:
        raise _unreadable(field, "something else" if content else "nothing") from None
    except Exception as error:  # a decoder may raise anything on broken data
        raise _unreadable(field, f"a broken one: {error}") from None


def _flat(picture: Image.Image) -> Image.Image:
    """The picture upright, without transparency, with 8 bits a channel."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # Pillow would cut what exceeds 8 bits off at white; the upper 8 of the 16 are the picture.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = _on_white(picture)
    picture.load()
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB; in strips, as a large one is some hundreds of megabytes each time."""
    whole = Image.new("RGB", picture.size)
    for top in range(0, picture.height, _STRIP):
        bottom = min(top + _STRIP, picture.height)
        layer = picture.crop((0, top, picture.width, bottom)).convert("RGBA")
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        whole.paste(layer.convert("RGB"), (0, top))
    return whole


def _unreadable(field: str, got: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: expected an image ({', '.join(FORMATS)}), got {got}")


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
