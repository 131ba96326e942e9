"""What the kit adds to Locust's command line.

Every option can be set in the environment as well, as LOCUST_… by its name.
"""

from argparse import ArgumentTypeError
from math import inf, nan
from pathlib import Path
from typing import Any, Final

from penstock_load.shapes import SHAPES
from serving.bench import slo

HOST: Final = "http://localhost:8000"
SAMPLES: Final = Path(__file__).parents[1] / "samples"


def add_options(parser: Any) -> None:
    """Add the options to Locust's parser."""

    def add(flag: str, **more: Any) -> None:
        parser.add_argument(flag, env_var=f"LOCUST_{flag[2:].replace('-', '_').upper()}", **more)

    add("--model", default="mnist-cnn", help="The model to ask. Default: mnist-cnn")
    add("--stream-model", default="repeat", help="The model of StreamUser. Default: repeat")
    add("--samples", default="", metavar="FILE", help="A .npz file of inputs and right outputs.")
    add("--rows", type=_count, default=1, help="Rows of a request. Default: 1")
    add("--grpc-host", default="", metavar="HOST:PORT", help="Default: the host's port 8001")
    add("--load", choices=SHAPES, default="constant", help="How load changes. Default: constant")
    add("--rate", type=positive, default=None, help="Requests/s at the peak: an open loop.")
    add("--max-in-flight", type=_count, default=100, help="Of each user, in an open loop.")
    add("--wait", type=seconds, default=0.0, help="Seconds from an answer to the next request.")
    add("--timeout", type=positive, default=10.0, help="Seconds to wait for an answer.")
    add("--linger", type=seconds, default=0.0, help="Seconds to stay on with the report.")
    add("--slo", type=objective, action="append", default=[], help="As p99=50ms or errors=0.1%%.")
    add("--api-key", default="", is_secret=True, help="Sent as 'Authorization: Bearer KEY'.")


def samples_file(options: Any) -> Path:
    """The file that was given, or the one of the model that comes with the kit."""
    return Path(options.samples or SAMPLES / f"{options.model}.npz")


def complete(options: Any) -> None:
    """Add `shared_by`, the users that share the rate, and `seconds`, a minute without --run-time.

    Locust's master sends its workers what is not an option of Locust's own, and only that.
    """
    options.shared_by = options.num_users or 1
    options.seconds = float(options.run_time or 60)


def seconds(text: str) -> float:
    """A time to wait; ArgumentTypeError for one that never ends, or is none."""
    value = _number(text)
    if not 0 <= value < inf:
        raise ArgumentTypeError(f"expected a number of seconds, 0 or more, got {text}")
    return value


def positive(text: str) -> float:
    """A finite number above 0; ArgumentTypeError for anything else."""
    value = _number(text)
    if not 0 < value < inf:
        raise ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number, 1 or more, got {text}")
    return int(text)


def objective(text: str) -> str:
    """The text itself, which Locust's master can send to its workers; ArgumentTypeError if bad."""
    try:
        parsed = slo.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if parsed.name == "goodput":
        raise ArgumentTypeError("Locust does not count goodput: ask `penstock bench` for it")
    return text
