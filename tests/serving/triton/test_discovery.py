"""What names stand for, as the machine's own resolver has it."""

import pytest

from serving.triton.discovery import Discovery


@pytest.mark.parametrize(
    ("names", "addresses"),
    [
        (["127.0.0.1:7001"], ("127.0.0.1:7001",)),
        (["[::1]:7001"], ("[::1]:7001",)),
        (["localhost:7001", "127.0.0.1:7001"], ("127.0.0.1:7001",)),
        (["127.0.0.2:1", "127.0.0.1:1"], ("127.0.0.2:1", "127.0.0.1:1")),
        (["no-such-host.invalid:7001", "127.0.0.1:7001"], ("127.0.0.1:7001",)),
    ],
)
async def test_each_address_is_named_once(names: list[str], addresses: tuple[str, ...]) -> None:
    assert await Discovery(names).addresses() == addresses
