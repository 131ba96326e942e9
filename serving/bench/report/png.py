"""Drawings as one PNG picture, below each other."""

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serving.bench.report.drawing import PALETTE, Dot, Drawing, Line, Point, Shape, Text

_SCALE: Final = 3  # painted that large, and made half as large, so that edges are smooth
_ANCHORS: Final = {"start": "ls", "middle": "ms", "end": "rs"}


def png(drawings: Sequence[Drawing]) -> bytes:
    """The picture, half as large again as the drawings are."""
    width = round(max(drawing.width for drawing in drawings))
    height = round(sum(drawing.height for drawing in drawings))
    picture = Image.new("RGB", (width * _SCALE, height * _SCALE), PALETTE["paper"])
    top = 0.0
    for drawing in drawings:
        painter = _Painter(picture, top)
        for shape in drawing.shapes:
            painter.paint(shape)
        top += drawing.height
    file = BytesIO()
    picture.resize((width * _SCALE // 2, height * _SCALE // 2), Image.Resampling.LANCZOS).save(
        file, "PNG"
    )
    return file.getvalue()


class _Painter:
    def __init__(self, picture: Image.Image, top: float) -> None:
        self._picture = picture
        self._draw = ImageDraw.Draw(picture)
        self._top = top

    def paint(self, shape: Shape) -> None:
        """Paint one shape."""
        match shape:
            case Line():
                self._line(shape)
            case Dot(at, radius, colour):
                x, y = self._at(at)
                reach = radius * _SCALE
                box = (x - reach, y - reach, x + reach, y + reach)
                self._draw.ellipse(box, fill=PALETTE[colour])
            case Text():
                self._text(shape)

    def _at(self, point: Point) -> Point:
        return point[0] * _SCALE, (point[1] + self._top) * _SCALE

    def _line(self, line: Line) -> None:
        width = max(round(line.width * _SCALE), 1)
        pieces = [line.points] if not line.dash else _dashes(line)
        for piece in pieces:
            places = [self._at(point) for point in piece]
            self._draw.line(places, PALETTE[line.colour], width, joint="curve")

    def _text(self, text: Text) -> None:
        font: Any = ImageFont.load_default(text.size * _SCALE)
        stroke = 1 if text.bold else 0
        colour, anchor = PALETTE[text.colour], _ANCHORS[text.anchor]
        if not text.upright:
            self._draw.text(
                self._at(text.at), text.text, colour, font, anchor=anchor, stroke_width=stroke
            )
            return
        left, _, right, bottom = font.getbbox(text.text)
        strip = Image.new("L", (round(right - left), round(bottom)), 0)
        ImageDraw.Draw(strip).text((-left, 0), text.text, 255, font)
        turned = strip.rotate(90, expand=True)
        x, y = self._at(text.at)
        # Its baseline is the right edge but for what hangs below it.
        place = round(x - turned.width * 0.75), round(y - turned.height / 2)
        self._picture.paste(Image.new("RGB", turned.size, colour), place, turned)


def _dashes(line: Line) -> list[Sequence[Point]]:
    """A level line in pieces."""
    pieces: list[Sequence[Point]] = []
    for (x, y), (end, _) in pairwise(line.points):
        starts = np.arange(x, end, 2 * line.dash).tolist()
        pieces += [((start, y), (min(start + line.dash, end), y)) for start in starts]
    return pieces
