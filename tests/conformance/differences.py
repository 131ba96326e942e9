"""Every wanted difference between Triton's answers and ours, by name and with its reason.

A case that no entry names must be answered alike; one that is named must differ in exactly what
the entry says, so that an entry goes when its difference does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from tests.conformance.calls import Call
from tests.conformance.cases_documents import THERE

STATUS: Final = frozenset({"status"})
# One answers what the other refuses.
OUTCOME: Final = frozenset({"outcome"})
WORDS: Final = frozenset({"message"})
HEADERS: Final = frozenset({"headers"})
BODY: Final = frozenset({"body"})
NOTHING: Final = frozenset[str]()


@dataclass(frozen=True, slots=True)
class Difference:
    """`cases` are patterns of names; `like_triton` is what is left with --triton-status-codes."""

    name: str
    reason: str
    aspects: frozenset[str]
    cases: tuple[str, ...]
    like_triton: frozenset[str] | None = None

    def expected(self, case: str, like_triton: bool) -> frozenset[str]:
        """In what the answers to `case` differ because of this."""
        if not any(fnmatchcase(case, pattern) for pattern in self.cases):
            return NOTHING
        left = self.like_triton if like_triton else None
        return self.aspects if left is None else left


def expected(case: str, like_triton: bool) -> set[str]:
    """In what the answers to `case` have to differ; `like_triton` with --triton-status-codes."""
    found = (difference.expected(case, like_triton) for difference in DIFFERENCES)
    return set().union(*found)


def unmatched(cases: Iterable[Call | str]) -> list[str]:
    """The patterns that name no case."""
    names = [str(case) for case in cases]
    return [
        pattern
        for difference in DIFFERENCES
        for pattern in difference.cases
        if not any(fnmatchcase(name, pattern) for name in names)
    ]


DIFFERENCES: Final = (
    Difference(
        "malformed requests are the client's fault",
        "400 says who has to change something; 500 pages whoever runs the server.",
        STATUS,
        (
            *(
                f"json: {what}"
                for what in (
                    "no JSON",
                    "JSON that ends early",
                    "two documents",
                    "a list",
                    "null",
                    "no inputs member",
                    "inputs that are *",
                    "outputs that are *",
                    "an output without a name",
                    "an id that is a number",
                    "parameters that are a list",
                    "binary_data* that is a number",
                    "an input without a name",
                    "an input without a shape",
                    "an input without a datatype",
                    "a name that is a number",
                    "a datatype that is a number",
                    "a shape that *",
                    "a negative dimension",
                    "data that are *",
                    "texts for integers",
                    "reals for integers",
                    "booleans for integers",
                    "nulls for integers",
                    "a text that is half a character",
                    "fewer data than the shape",
                    "more data than the shape",
                    "no data",
                    "a region that is a number",
                )
            ),
            *(
                f"{encoding}: {what}"
                for encoding in ("json", "binary")
                for what in (
                    "a timeout that is a text",
                    "a negative timeout",
                    "a priority that is a text",
                    "a sequence id that is a real",
                    "a negative sequence id",
                    "a sequence start that is a number",
                    "classes of which there is a text",
                    "a negative count of classes",
                )
            ),
            "binary: a length that is too short",
            "index over REST: no JSON",
            "index over REST: ready that is no boolean",
            "generate: texts for numbers",
            "generate: no JSON",
            "generate: a list",
            "generate: nothing at all",
            "shared memory: register what is no JSON",
            "logging: a text for a boolean",
            "logging: a number for a boolean",
            "logging: a text for the level",
            "logging: a negative level",
            "logging: no JSON",
            "tracing: a level that is a number",
            "tracing: no JSON",
        ),
        like_triton=NOTHING,
    ),
    Difference(
        "what is malformed is malformed everywhere",
        "Triton's own codes are 400 for some of these and 500 for their neighbours; with its "
        "codes, ours are 500 for all of them.",
        NOTHING,
        (
            "json: fewer texts than the shape",
            "json: nothing at all",
            "json: an input that is a number",
            "json: a key given twice",
            "binary: a length that is too long",
        ),
        like_triton=STATUS,
    ),
    Difference(
        "a version that is no number is named as such",
        "Triton has no route for it over REST and says Not Found; over gRPC it says what we do.",
        STATUS,
        (
            "* over REST: a version that is no number",
            "* over REST: a negative version",
            "json: a version that is no number",
            "binary: a version that is no number",
        ),
    ),
    Difference(
        "names in a path are unquoted",
        "RFC 3986: %70 is p. Triton takes the text as it is.",
        OUTCOME,
        ("a name with an escaped letter",),
    ),
    Difference(
        "messages show names unquoted",
        "As above; what is quoted in a message is the name that was looked for.",
        WORDS,
        ("a name that leads upwards", "unknown route /v2/models/a%2fb"),
    ),
    Difference(
        "405 names the methods that are allowed",
        "RFC 9110 asks for Allow.",
        HEADERS,
        ("wrong method *", "generate: GET", "shared memory: register by GET", "logging: PUT"),
    ),
    Difference(
        "HEAD is answered as GET is, without the body",
        "RFC 9110 asks every server for both, and probes send it. Triton says 405 to it.",
        STATUS,
        ("HEAD *",),
    ),
    Difference(
        "health is told by a body too",
        "The protocol has it so, and KServe's client reads no status. Triton's answers are empty.",
        BODY | HEADERS,
        (
            "get /v2/health/*",
            *(f"ready over REST: {what}" for what in THERE),
        ),
    ),
    Difference(
        "who answers",
        "The name and version are our own, and of the extensions we list those that we have.",
        BODY,
        ("server metadata over *",),
    ),
    Difference(
        "what would be misread is refused",
        "Triton answers with other numbers than were sent, or ignores a part of the request.",
        OUTCOME,
        (
            "json: integers out of range",
            "json: data nested otherwise than the shape is",
            "json: parameters of an output that are a list",
            "index over REST: a list",
            "index over REST: null",
            "binary: a length with a sign",
            "binary: a length that ends in letters",
            "binary: a packed body that ends early",
            "grpc: more raw contents than inputs",
            "logging: a list",
            "logging: an unknown setting*",
            "tracing: an unknown setting*",
            "tracing: an unknown level*",
        ),
    ),
    Difference(
        "a key given twice is named",
        "Triton reads the first of the two, and finds fault with what it read.",
        WORDS,
        ("json: a key given twice",),
    ),
    Difference(
        "as newer Tritons do",
        "Releases after 2.51 refuse the same output twice and JSON nested deeper than 100.",
        OUTCOME,
        ("*: an output asked for twice", "json: JSON nested 101 deep"),
    ),
    Difference(
        "headers is a reserved parameter",
        "The parameters extension reserves the name; 2.51 does not check it.",
        OUTCOME,
        ("*: headers as a parameter",),
    ),
    Difference(
        "no classes are no classes over both protocols",
        "Triton answers classification 0 with the tensor over REST and refuses it over gRPC.",
        OUTCOME,
        ("grpc*: no classes",),
    ),
    Difference(
        "half floats have an order",
        "Classification takes FP16 as any number.",
        OUTCOME,
        ("binary: classes of half floats", "grpc raw: classes of half floats"),
    ),
    Difference(
        "no elements need no contents",
        "An input of shape [0, 2] is complete without any.",
        OUTCOME,
        ("grpc: unset contents of no elements",),
    ),
    Difference(
        "generate takes nested lists",
        "A list as deep as the input's shape says the same as a flat one.",
        OUTCOME,
        ("generate: a nested list",),
    ),
    Difference(
        "binary_data_output holds for outputs that are named",
        "The binary extension lets an output's binary_data override it; 2.51 reads it only where "
        "no output is named.",
        frozenset({"body", "headers", "binary"}),
        ("json: all outputs binary but one",),
    ),
    Difference(
        "outputs come in the order asked for",
        "Triton returns them in the order of its backend, here a stand-in in Python.",
        BODY,
        ("json: outputs in another order", "grpc*: outputs in another order"),
    ),
    Difference(
        "outputs come in the order asked for, and so do their bytes",
        "As above.",
        frozenset({"body", "binary"}),
        ("binary: outputs in another order",),
    ),
    Difference(
        "FP32 is written in as many digits as tell it apart",
        "0.1 rather than 0.10000000149011612: the same FP32 in half the bytes.",
        BODY,
        ("json: floats of many digits", "json: both ends of FP32"),
    ),
    Difference(
        "small answers are not packed",
        "Below 1 KiB, packing costs time and saves no packet.",
        HEADERS,
        ("gzip: small answer",),
    ),
    Difference(
        "an empty batch is named",
        "Triton calls it a mismatch of sizes, of another input than the one at fault.",
        WORDS,
        ("*: a batch of nothing",),
    ),
    Difference(
        "a raw request names the input",
        "Triton calls it raw_input, whatever its name.",
        WORDS,
        ("binary: a raw request of another size",),
    ),
    Difference(
        "an input that is missing is the client's fault",
        "Triton counts inputs, and leaves it to the backend to fail on a required one that is "
        "missing beside an optional one.",
        STATUS,
        ("*: a missing input beside an optional one",),
    ),
    Difference(
        "texts are UTF-8",
        "ONNX Runtime holds them so in Python; what is not is refused before it runs.",
        STATUS,
        ("*: a text that is not UTF-8",),
    ),
    Difference(
        "a failed execution is ours over generate too",
        "Triton answers 400 there and 500 to the same failure of infer.",
        STATUS,
        ("generate: a model that fails to run",),
    ),
    Difference(
        "an error ends its request on a stream",
        "Each bears the model's name and triton_final_response; Triton says so only of what ran.",
        BODY,
        ("stream: an unknown model", "stream: a fault without an id", "stream: a fault between *"),
    ),
    Difference(
        "triton_grpc_error makes every error a status",
        "2.51 ends the stream with OK where the request did not reach the model.",
        OUTCOME,
        ("stream: a fault as a status", "stream: an unknown model as a status"),
    ),
    Difference(
        "a key that is not there is the client's fault",
        "As with malformed requests, over both protocols.",
        STATUS,
        ("shared memory: register an unknown key*",),
    ),
    Difference(
        "a format that is none is the client's fault",
        "Triton answers 503 over REST, as if it were out of service.",
        STATUS,
        ("logging: an unknown format",),
    ),
    Difference(
        "a region is looked for first",
        "Where a tensor has data too, or no size, both faults are there to be told.",
        STATUS,
        ("json: data in the JSON and in shared memory",),
    ),
    Difference(
        "a region needs its size",
        "Told before the region is looked for.",
        frozenset({"status", "message"}),
        ("json: a region without its size",),
    ),
)

# Fields of a configuration in force: in which models ("" for all of them), and why.
CONFIGURATION: Final = {
    "runtime": (
        "",
        "The backend's file: Triton runs a stand-in in Python for its ONNX Runtime backend.",
    ),
    "instance_group[0].count": (
        "mnist-cnn",
        "Where the configuration does not say, Triton runs two instances on a CPU, which compete "
        "for the same processors; ours gives them to one.",
    ),
}
# Families of metrics that only Triton has.
METRICS: Final = {
    "nv_pinned_memory_pool_total_bytes": "There is no pool of pinned memory.",
    "nv_pinned_memory_pool_used_bytes": "There is no pool of pinned memory.",
}
# Families that Tritons after 2.51 have.
NEWER_METRICS: Final = frozenset({"nv_model_load_duration_secs"})
# Counts in statistics and metrics.
COUNTS: Final = {
    "failed requests": "A request that does not fit its model has failed; Triton forgets it.",
    "successful executions": "Lower, where the stand-in for Triton's backend counts failed ones.",
}


def as_table() -> str:
    """The differences as docs/compatibility.md shows them."""
    reasons = {difference.name: difference.reason for difference in DIFFERENCES}
    reasons |= {f"`{path}` in `/config`": why for path, (_, why) in CONFIGURATION.items()}
    reasons |= {f"`{name}` in `/metrics`": why for name, why in METRICS.items()}
    reasons |= {f"the count of {name}": why for name, why in COUNTS.items()}
    rows = [f"| {name} | {reason} |" for name, reason in reasons.items()]
    return "\n".join(("| what | why |", "|---|---|", *rows, ""))


if __name__ == "__main__":
    print(as_table(), end="")
