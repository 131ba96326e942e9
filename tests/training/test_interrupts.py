"""An interrupt reaches the training wherever it comes."""

import signal

import pytest

from training.interrupts import Interrupts


class Interrupted:
    """What interrupts the process as it is thrown away, where no exception gets out."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_lost_is_made_up_for() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        Interrupted()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_an_interrupt_comes_at_once_where_it_can_and_what_was_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
