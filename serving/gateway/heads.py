"""The heads of infer requests by their bytes: a client repeats them, and each is read once.

And how the heads of answers begin, which stays the same for a second.
"""

from typing import Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.memo import Memo

_END: Final = b"\r\n\r\n"
_LONGEST: Final = 2048
_MOST: Final = 512


class Head(NamedTuple):
    """What an infer request says before its body of `size` bytes.

    `header_length` is the header HEADER_LENGTH (None: not sent), `accepted` the Accept-Encoding,
    `fields` all headers, their names in lower case, and `stays` what an answer has to say for the
    connection to go on: "" but of HTTP/1.0, whose connections end where nobody says otherwise.
    """

    model: str
    version: str
    size: int
    header_length: str | None
    accepted: str
    fields: list[tuple[bytes, bytes]]
    stays: str = ""


class Heads:
    """The heads that came lately."""

    def __init__(self) -> None:
        self._known: Memo[bytes, Head] = Memo(_MOST)

    def find(self, data: bytes) -> tuple[Head, int] | None:
        """The known head with which `data` begins, and where its body does."""
        end = data.find(_END, 0, _LONGEST) + len(_END)
        head = self._known.get(data[:end])
        return None if head is None else (head, end)

    def learn(self, data: bytes, head: Head) -> None:
        """A parser took the beginning of `data` for `head`, and nothing was before it."""
        end = data.find(_END, 0, _LONGEST) + len(_END)
        text = data[:end]
        # A parser may see ends of lines, and of heads, elsewhere; then this is left to the parser.
        lines = len(head.fields) + 2
        if not text.startswith(b"POST ") or not lines == text.count(b"\n") == text.count(b"\r\n"):
            return
        self._known.keep(text, head)


class Starts:
    """The status lines of answers, each with the headers that the server gives to all of them."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._known: dict[int, bytes] = {}

    def of(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """What an answer of that status begins with; other headers come as another list."""
        if headers is not self._headers:
            self._headers, self._known = headers, {}
        start = self._known.get(status)
        if start is None:
            fields = [b"%b: %b\r\n" % header for header in headers]
            start = self._known[status] = b"".join((STATUS_LINE[status], *fields))
        return start
