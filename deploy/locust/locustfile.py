"""Load tests of a server of the Open Inference Protocol: see docs/loadtest.md.

locust -f deploy/locust/locustfile.py --headless -u 10 -t 1m --slo p99=50ms --html report.html
"""

import atexit
import logging
import os
import signal
import sys
import time
from functools import partial
from typing import Any, Final

# Before anything that makes a connection: gRPC has to wait as the rest of Locust does.
from grpc.experimental.gevent import init_gevent
from locust import LoadTestShape, events
from penstock_load import objectives
from penstock_load.options import add_options, complete
from penstock_load.shapes import level
from penstock_load.users import GrpcUser, ImageUser, RestBinaryUser, RestJsonUser, StreamUser

init_gevent()

__all__ = ["GrpcUser", "ImageUser", "Load", "RestBinaryUser", "RestJsonUser", "StreamUser"]

logger = logging.getLogger("penstock.load")
_PASSED: Final = 0
_MISSED: Final = 1
_NOTHING_TO_ASK: Final = 2

events.init_command_line_parser.add_listener(add_options)


class Load(LoadTestShape):  # type: ignore[misc]  # an untyped library
    """Users by --load in a closed loop; in an open one all of them, whose arrivals follow it."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """How many users there are to be, and how many of them may come in a second."""
        options = self.runner.environment.parsed_options
        complete(options)
        passed = self.get_run_time() / options.seconds
        if passed >= 1:
            return None
        peak: int = options.shared_by
        if options.rate:
            return peak, peak
        return max(1, round(peak * level(options.load, passed))), options.spawn_rate or peak


@events.init.add_listener  # type: ignore[untyped-decorator]
def _let_answers_come(environment: Any, **_: Any) -> None:
    """Who waits for an answer as the test ends may still get it."""
    environment.stop_timeout = environment.stop_timeout or environment.parsed_options.timeout


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _is_there_something_to_ask(environment: Any, **_: Any) -> None:
    """A test that cannot ask ends at once and says why, instead of failing request by request."""
    if environment.parsed_options.worker:
        return  # the master has looked, and knows which users there are to be
    for user_class in environment.user_classes:
        user = user_class(environment)
        try:
            user.ready()
            user.close()
        except Exception as error:
            logger.error("%s: %s", user_class.__name__, error)
            environment.process_exit_code = _NOTHING_TO_ASK
            environment.runner.quit()
            return


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: Any) -> None:
    """Say of each objective whether it was met; the exit code is 1 where one was not."""
    options, total = environment.parsed_options, objectives.asked(environment.stats)
    if environment.process_exit_code is not None or options.worker:
        return
    verdicts = objectives.judge(options.slo, total)
    for verdict in verdicts:
        print(f"SLO {objectives.line(verdict)}")
    environment.process_exit_code = _PASSED if objectives.passed(verdicts, total) else _MISSED


@events.init.add_listener  # type: ignore[untyped-decorator]
def _leave_as_told(environment: Any, **_: Any) -> None:
    environment.events.quit.add_listener(partial(_leave, environment.parsed_options))


def _leave(options: Any, exit_code: int, **_: Any) -> None:
    """End without taking the interpreter apart: there, gRPC's lock for gevent may wait for ever."""
    has_report = options.html_file and not options.worker and exit_code in (_PASSED, _MISSED)
    linger = options.linger if has_report else 0
    if linger:
        print(f"Report: {options.html_file}, to be fetched within {linger:g} s")
    atexit.register(_end, exit_code, linger)


def _end(code: int, linger: float) -> None:
    """Exit with the code after `linger` seconds, or when told to terminate."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
    logging.shutdown()
    sys.stdout.flush()
    time.sleep(linger)
    os._exit(code)
