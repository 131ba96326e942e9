"""HTTP without a client of the protocol: uploads, and streams of events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from geventhttpclient import HTTPClient

from penstock_load.addresses import Address, credentials
from penstock_load.samples import WrongAnswer

_BOUNDARY: Final = "a4b1c0e7-penstock-load"
FORM: Final = f"multipart/form-data; boundary={_BOUNDARY}"
_SHOWN: Final = 200  # characters of an error's body


class Client:
    """Connections to a server's REST port, as the command line wants them."""

    def __init__(self, address: Address, options: Any) -> None:
        self._headers = credentials(options)
        host, _, port = address.rest.rpartition(":")
        self._http = HTTPClient(
            host.strip("[]"),
            int(port),
            concurrency=options.max_in_flight,
            connection_timeout=options.timeout,
            network_timeout=options.timeout,
            ssl=address.is_secure,
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def get(self, path: str) -> Any:
        """The document at `path`; WrongAnswer for any status but 200."""
        return json.loads(self._checked(self._http.get(path, self._headers)).read())

    def post(self, path: str, content_type: str, body: bytes) -> bytes:
        """The answer's body; WrongAnswer for any status but 200."""
        return bytes(self._posted(path, content_type, body).read())

    def events(self, path: str, document: Mapping[str, Any]) -> Iterator[bytes]:
        """The data of each server-sent event, as it comes."""
        response = self._posted(path, "application/json", json.dumps(document).encode())
        while event := bytes(response.readline(b"\n\n")):
            yield event.removeprefix(b"data: ")

    def _posted(self, path: str, content_type: str, body: bytes) -> Any:
        headers = {"content-type": content_type} | self._headers
        return self._checked(self._http.post(path, body, headers))

    @staticmethod
    def _checked(response: Any) -> Any:
        if response.status_code != 200:
            text = bytes(response.read()).decode(errors="replace")[:_SHOWN]
            raise WrongAnswer(f"HTTP {response.status_code}: {text}")
        return response


def form(files: Sequence[bytes]) -> bytes:
    """The body of a form (`FORM`) with these PNG files."""
    parts = [
        (
            f"--{_BOUNDARY}\r\n"
            f'content-disposition: form-data; name="file"; filename="{number}.png"\r\n'
            "content-type: image/png\r\n\r\n"
        ).encode()
        + content
        + b"\r\n"
        for number, content in enumerate(files)
    ]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
