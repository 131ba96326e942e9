"""A session that another one can take the place of while it is in use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Condition
from typing import Final

from serving.engine.backends.base import Session
from serving.types import Array, Signature


@dataclass(slots=True, eq=False)
class _Held:
    """A session, and how many runs it is in."""

    session: Session
    runs: int = 0


class Exchangeable:
    """Runs a session, and from some moment on another of the same signature; for any thread."""

    # How long the runs of one take foretells nothing of the other's.
    steady: Final = False

    def __init__(self, session: Session) -> None:
        self._held = _Held(session)
        self._changed = Condition()
        self._closed = False

    @property
    def signature(self) -> Signature:
        """The session's."""
        return self._held.session.signature

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """As the session does that is in place when the run begins."""
        with self._changed:
            held = self._held
            held.runs += 1
        try:
            return held.session.run(inputs, outputs)
        finally:
            with self._changed:
                held.runs -= 1
                self._changed.notify_all()

    def exchange(self, session: Session) -> Session:
        """Put `session` in place at once; returns what has to be closed.

        That is the session before it, once the last of its runs is over, or `session` itself where
        this one has been closed.
        """
        with self._changed:
            if self._closed:
                return session
            before, self._held = self._held, _Held(session)
            self._changed.wait_for(lambda: not before.runs)
            return before.session

    def close(self) -> None:
        """Release what is in place; nothing of it must run."""
        with self._changed:
            self._closed = True
            self._held.session.close()
