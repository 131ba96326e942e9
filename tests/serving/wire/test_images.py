"""What becomes of pictures before a model sees them."""

import io

import numpy as np
from PIL import Image

from serving.dtypes import Datatype
from serving.types import TensorSpec
from serving.wire import images


def test_a_tall_transparent_picture_is_put_on_white_without_seams() -> None:
    height, width = 700, 3
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    picture = Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, "PNG")

    decoded = images.decode(
        file.getvalue(), TensorSpec("image", Datatype.UINT8, (height, width, 3)), "FORMAT_NHWC"
    )

    whole = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    assert np.array_equal(decoded, np.asarray(whole.convert("RGB")))
