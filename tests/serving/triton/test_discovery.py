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
    assert tuple(await Discovery(names).addresses()) == addresses


async def test_a_name_that_stands_for_nothing_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    discovery = Discovery(["no-such-host.invalid:7001", "127.0.0.1:7001"])
    for _ in range(2):
        await discovery.addresses()
    assert discovery.unknown == ["no-such-host.invalid:7001"]
    [told] = caplog.messages
    assert told.startswith("no-such-host.invalid:7001: ")


async def test_an_address_is_that_of_the_host_whose_certificate_it_must_show() -> None:
    found = await Discovery(["localhost:7001", "[::1]:7001"]).addresses()
    assert found == {"127.0.0.1:7001": "localhost", "[::1]:7001": "::1"}
