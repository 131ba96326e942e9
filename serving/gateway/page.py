"""The page for people: every model that is ready, and a way to try it in a browser.

It asks for nothing but what any client may ask: the index, metadata, configurations, `/predict`
and the streams of generation. It needs nothing from elsewhere.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Final

from fastapi import FastAPI, Response

_GAP: Final = "{{script}}"


def add_page(app: FastAPI) -> None:
    """Have `app` answer with the page where nothing but the server is asked for."""

    async def page() -> Response:
        content, headers = _page()
        return Response(content, headers=headers, media_type="text/html")

    app.add_api_route("/", page, include_in_schema=False)


@cache
def _page() -> tuple[str, dict[str, str]]:
    files = resources.files("serving.gateway")
    frame, script = ((files / name).read_text("utf-8") for name in ("page.html", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return frame.replace(_GAP, script), {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
