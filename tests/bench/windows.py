"""Windows as a test wants them, without a machine to measure."""

from bench.contestants import Window


def window(
    requests: int = 1000, server: float = 0.5, others: float = 0.0, errors: int = 0
) -> Window:
    """One second in which so many requests were answered; times in seconds."""
    return Window(
        seconds=1.0,
        requests=requests,
        p50=0.002,
        p99=0.005,
        errors=errors,
        server=server,
        load=0.1,
        others=others,
    )
