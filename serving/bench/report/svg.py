"""A drawing as SVG, whose colours are variables of the page's style sheet."""

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from serving.bench.report.drawing import Dot, Drawing, Line, Shape, Text


def svg(drawing: Drawing) -> str:
    """An `svg` element, as wide as the page lets it be."""
    body = "\n".join(part for shape in drawing.shapes for part in _shape(shape))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawing.width:g} '
        f'{drawing.height:g}" role="img" aria-label={quoteattr(drawing.title)}>\n{body}\n</svg>'
    )


def _shape(shape: Shape) -> Iterator[str]:
    match shape:
        case Line(points, colour, width, dash):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            dashes = f' stroke-dasharray="{dash:g}"' if dash else ""
            yield (
                f'<polyline points="{places}" fill="none" stroke="var(--{colour})" '
                f'stroke-width="{width:g}" stroke-linejoin="round"{dashes}/>'
            )
        case Dot((x, y), radius, colour, title):
            told = f"<title>{escape(title)}</title>" if title else ""
            yield (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="var(--{colour})">'
                f"{told}</circle>"
            )
        case Text((x, y), text, size, colour, anchor, bold, upright):
            weight = ' font-weight="600"' if bold else ""
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if upright else ""
            yield (
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="var(--{colour})" '
                f'text-anchor="{anchor}"{weight}{turn}>{escape(text)}</text>'
            )
