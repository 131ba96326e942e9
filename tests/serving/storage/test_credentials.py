"""Credentials come from the environment, by the names of the SDKs and of Triton."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.errors import LoadFailed
from serving.location import Remote, parse
from serving.storage.credentials import options

CREDENTIALS = {
    "s3": {
        "": {"key_id": "K", "secret_key": "S", "region": "R", "session_token": "", "profile": ""},
        "s3://bucket": {"profile": "P"},
        "s3://bucket/deep": {"key_id": "K2", "secret_key": "S2", "session_token": "T2"},
    },
    "gs": {"": "everything.json", "gs://mine": "mine.json"},
    "as": {"as://account/container": {"account_str": "named", "account_key": "key"}},
}


def given(url: str, **environment: str) -> dict[str, Any]:
    remote = parse(url)
    assert isinstance(remote, Remote)
    return options(remote, environment)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(CREDENTIALS))
    return str(path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://other", {"key": "K", "secret": "S", "client_kwargs": {"region_name": "R"}}),
        ("s3://bucket/models", {"profile": "P"}),
        ("s3://bucket/deep/models", {"key": "K2", "secret": "S2", "token": "T2"}),
        ("gs://other/models", {"token": "everything.json"}),
        ("gs://mine/models", {"token": "mine.json"}),
        ("as://account/container/models", {"account_name": "named", "account_key": "key"}),
        ("as://account/other", {"account_name": "account", "anon": False}),
        ("memory://models", {}),
    ],
)
def test_tritons_file_is_read_by_the_longest_name(
    file: str, url: str, expected: dict[str, Any]
) -> None:
    assert given(url, TRITON_CLOUD_CREDENTIAL_PATH=file) == expected


def test_without_it_the_sdks_find_their_own() -> None:
    assert given("s3://bucket") == {}
    assert given("s3://https://host:9000/bucket") == {"endpoint_url": "https://host:9000"}
    assert given("gs://bucket") == {}


def test_azure_is_given_tritons_variables() -> None:
    key = {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "k"}
    assert given("abfs://container", **key) == {"account_name": "a", "account_key": "k"}
    assert given("as://b/container", **key) == {"account_name": "b", "account_key": "k"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "is not JSON as Triton has it"),
        ("[]", "is not JSON as Triton has it"),
        ('{"s3": []}', "is not JSON as Triton has it"),
        ('{"s3": {"": "key"}}', "expected an object of key_id, secret_key"),
        ('{"s3": {"": {"client_id": "x"}}}', "expected an object of key_id, secret_key"),
    ],
)
def test_a_file_that_is_unfit_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(LoadFailed, match=message):
        given("s3://bucket", TRITON_CLOUD_CREDENTIAL_PATH=str(path))


def test_a_file_that_is_missing_is_told() -> None:
    with pytest.raises(LoadFailed, match="TRITON_CLOUD_CREDENTIAL_PATH: /no/file cannot be read"):
        given("s3://bucket", TRITON_CLOUD_CREDENTIAL_PATH="/no/file")
