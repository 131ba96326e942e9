"""Which of the requests at the head of a line make a batch: what the queues have in common."""

from collections.abc import Container, Iterable


def prefix(rows: Iterable[int], limit: int, preferred: Container[int]) -> tuple[int, int]:
    """How many requests, of so many rows each and in this order, make a batch of `limit` rows.

    At least one. Beside it: how many of them make the largest preferred size, 0 where none do.
    """
    total = length = best = 0
    for each in rows:
        total += each
        if length and total > limit:
            break
        length += 1
        if total in preferred:
            best = length
    return length, best
