"""A repository is named as Triton names it: by a folder's path or a store's URL."""

from pathlib import Path

import pytest

from serving.location import Remote, parse


@pytest.mark.parametrize("text", ["models", "/srv/models", "a b", "C:\\models", "s3:bucket"])
def test_what_is_no_url_is_a_folder(text: str) -> None:
    assert parse(text) == Path(text)


def test_a_file_url_is_a_folder() -> None:
    assert parse("file:///srv/my%20models/") == Path("/srv/my models")


@pytest.mark.parametrize(
    ("url", "target", "endpoint"),
    [
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/a/b/", "s3://bucket/a/b", ""),
        ("s3://host:9000/bucket/a", "s3://bucket/a", "http://host:9000"),
        ("s3://http://host:9000/bucket", "s3://bucket", "http://host:9000"),
        ("s3://https://host:9000/bucket/a", "s3://bucket/a", "https://host:9000"),
        ("s3://https://host/bucket/a", "s3://bucket/a", "https://host"),
        ("s3://[::1]:9000/bucket/a", "s3://bucket/a", "http://[::1]:9000"),
        ("gs://bucket/a", "gs://bucket/a", ""),
        ("abfs://container/a", "abfs://container/a", ""),
        ("memory://models", "memory://models", ""),
    ],
)
def test_urls_are_read_as_triton_reads_them(url: str, target: str, endpoint: str) -> None:
    assert parse(url) == Remote(url.rstrip("/"), target, endpoint)


def test_an_azure_account_is_named_first() -> None:
    url = "as://account/container/a"
    assert parse(url) == Remote(url, "abfs://container/a", account="account")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "names no bucket; expected s3://BUCKET/PREFIX"),
        ("s3://host:9000", "names no bucket; expected s3://HOST:PORT/BUCKET/PREFIX"),
        ("as://account", "names no container; expected as://ACCOUNT/CONTAINER/PREFIX"),
        ("s3://https://key:secret@host:9000/bucket", "must not hold a password"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        parse(url)
    assert "secret" not in str(raised.value)
