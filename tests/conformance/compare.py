"""In what two answers to the same request differ, by the rules of the protocol."""

import json
import re
from typing import Final

from tests.conformance.calls import Answer

# Messages that clients match, each with a case in which it occurs: ours must begin with Triton's,
# and may add a cure. All others are free in their words, as long as there are any.
_IN_THE_QUEUE: Final = ""  # what test_queue.py causes
WORDING: Final = {
    r"Request for unknown model: '.*' is not found$": "metadata over REST: an unknown model",
    r"Request for unknown model: '.*' version \d+ is not found$": "json: unknown version",
    r"Request for unknown model: '.*' has no available versions$": (
        "grpc raw: a model that failed to load"
    ),
    r"explicit model load / unload is not allowed if polling is enabled$": (
        "load outside of explicit mode over REST"
    ),
    r"unexpected inference input '.*' for model '.*'$": "json: an unknown input",
    r"unexpected inference output '.*' for model '.*'$": "grpc typed: an unknown output",
    r"\[request id: .*\] expected \d+ inputs but got \d+ inputs for model '.*'\. Got input\(s\) "
    r"\[.*\], but missing required input\(s\) \[.*\]\. Please provide all required input\(s\)\.$": (
        "binary: a missing input of a request with an id"
    ),
    r"\[request id: .*\] input byte size mismatch for input '.*' for model '.*'\. "
    r"Expected \d+, got \d+$": "binary: fewer data than the shape",
    r"\[request id: .*\] Exceeds maximum queue size$": _IN_THE_QUEUE,
    r"Request timeout expired$": _IN_THE_QUEUE,
    r"requested model '.*' is not available$": "statistics over REST: an unknown model",
    r"requested model version is not available for model '.*'$": (
        "statistics over gRPC: an unknown version"
    ),
    r"Unable to find shared memory region: '.*'$": "json: an unknown region for an output",
}
# Members of a body that say why something failed.
_REASONS: Final = ("reason", "error_message")
_WORDING: Final = re.compile("|".join(f"(?:{pattern})" for pattern in WORDING))


def differing(ours: Answer, theirs: Answer) -> set[str]:
    """The names of the aspects that are not alike; of what only one of them refuses, `outcome`."""
    if bool(ours.message) != bool(theirs.message):
        return {"outcome"}
    found = {
        name
        for name, mine, yours in (
            ("status", ours.status, theirs.status),
            ("headers", ours.headers, theirs.headers),
            ("body", _text(ours.body), _text(theirs.body)),
            ("binary", ours.trailer, theirs.trailer),
        )
        if mine != yours
    }
    return found if _same_words(ours.message, theirs.message) else found | {"message"}


def _text(body: object) -> str:
    """One text for each document; as numbers, NaN would not equal itself."""
    return json.dumps(_without_reasons(body), sort_keys=True)


def _without_reasons(body: object) -> object:
    """`body` without the words for what went wrong, which are free."""
    if isinstance(body, list):
        return [_without_reasons(item) for item in body]
    if isinstance(body, dict):
        return {
            name: "given" if name in _REASONS and value else _without_reasons(value)
            for name, value in body.items()
        }
    return body


def _same_words(ours: str, theirs: str) -> bool:
    return ours.startswith(theirs) if _WORDING.match(theirs) else True
