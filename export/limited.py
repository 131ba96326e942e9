"""Runs of a model of unknown origin, which may never come to an end."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Final

from export.errors import RunTooLong
from export.onnx_model import Feed, OnnxModel, Outputs, described

# In seconds: what the runtime may take to notice that a run is to end, which it does at each node.
_PATIENCE: Final = 10.0


def limited(model: OnnxModel, source: Path, seconds: float) -> Callable[[Feed], Outputs]:
    """`model`, whose runs end after so many seconds with RunTooLong, and at Ctrl-C at once."""

    def run(feed: Feed) -> Outputs:
        outputs: Future[Outputs] = Future()
        # Python hears of Ctrl-C as it waits for a thread, and not as the runtime computes.
        thread = Thread(target=_fulfil, args=(outputs, model, feed), daemon=True)
        thread.start()
        try:
            return outputs.result(seconds)
        except TimeoutError:
            raise RunTooLong(
                f"{source}: the model takes longer than {seconds:g} s for {described(feed)}; give "
                "it real inputs by --sample, fewer rows by --max-batch-size, or more time by "
                "--run-timeout"
            ) from None
        finally:
            if not outputs.done():
                model.stop()
                thread.join(_PATIENCE)

    return run


def _fulfil(outputs: "Future[Outputs]", model: OnnxModel, feed: Feed) -> None:
    try:
        outputs.set_result(model(feed))
    except BaseException as error:  # raised where it is waited for
        outputs.set_exception(error)
