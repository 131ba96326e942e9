"""What fsspec is told to open a store with: credentials as the stores' own SDKs read them.

Beside them, as Triton has it, AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, and
TRITON_CLOUD_CREDENTIAL_PATH: a JSON file that holds credentials by the beginnings of URLs.

    {"s3": {"": {"key_id": …, "secret_key": …, "session_token": …, "region": …, "profile": …}},
     "gs": {"gs://bucket": "service-account.json"},
     "as": {"as://account/container": {"account_str": …, "account_key": …}}}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from serving.errors import LoadFailed
from serving.location import Remote

FILE_VARIABLE: Final = "TRITON_CLOUD_CREDENTIAL_PATH"
S3_SCHEMES: Final = ("s3", "s3a")
GOOGLE_SCHEMES: Final = ("gs", "gcs")
AZURE_SCHEMES: Final = ("abfs", "abfss", "az")

# Triton's name for a credential -> fsspec's option; "" needs more than an option.
_S3: Final = {
    "key_id": "key",
    "secret_key": "secret",
    "session_token": "token",
    "profile": "profile",
    "region": "",
}
_AZURE: Final = {"account_str": "account_name", "account_key": "account_key"}


def options(remote: Remote, environment: Mapping[str, str]) -> dict[str, Any]:
    """The options for the file system of `remote`; LoadFailed if the file of credentials is unfit.

    What is not among them, the SDKs find by themselves.
    """
    if remote.scheme in S3_SCHEMES:
        return _s3_options(remote, _entry("s3", remote, environment, _S3))
    if remote.scheme in GOOGLE_SCHEMES:
        path = _entry("gs", remote, environment)
        return {"token": path} if path else {}
    if remote.scheme in AZURE_SCHEMES:
        return _azure_options(remote, _entry("as", remote, environment, _AZURE), environment)
    return {}


def _s3_options(remote: Remote, entry: Any) -> dict[str, Any]:
    given: dict[str, Any] = {_S3[name]: value for name, value in entry.items() if _S3[name]}
    if remote.endpoint:
        given["endpoint_url"] = remote.endpoint
    if region := entry.get("region"):
        given["client_kwargs"] = {"region_name": region}
    return given


def _azure_options(remote: Remote, entry: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    given = {_AZURE[name]: value for name, value in entry.items()}
    account = remote.account or environment.get("AZURE_STORAGE_ACCOUNT")
    if account:
        given.setdefault("account_name", account)
    if key := environment.get("AZURE_STORAGE_KEY"):
        given.setdefault("account_key", key)
    if "account_key" not in given and "AZURE_STORAGE_ANON" not in environment:
        # Unless it is told so, adlfs does not look for an identity.
        given["anon"] = False
    return given


def _entry(
    section: str,
    remote: Remote,
    environment: Mapping[str, str],
    known: Mapping[str, str] | None = None,
) -> Any:
    """What the file says of `remote` under the longest name that its URL begins with."""
    if not (file := environment.get(FILE_VARIABLE)):
        return {}
    entries = _section(Path(file), section)
    names = [name for name in entries if remote.url.startswith(name)]
    if not names:
        return {}
    found = entries[max(names, key=len)]
    if known is None:
        fits = isinstance(found, str)
    else:
        fits = isinstance(found, dict) and found.keys() <= known.keys()
    if not fits:
        expected = f"an object of {', '.join(known)}" if known else "the path of a key's file"
        raise LoadFailed(f"{file}: expected {expected} for {remote.url}")
    return {name: value for name, value in found.items() if value} if known else found


def _section(file: Path, section: str) -> Mapping[str, Any]:
    try:
        entries = json.loads(file.read_bytes()).get(section, {})
    except OSError as error:
        raise LoadFailed(f"{FILE_VARIABLE}: {file} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError):
        entries = None
    if not isinstance(entries, dict):
        raise LoadFailed(f"{FILE_VARIABLE}: {file} is not JSON as Triton has it")
    return entries
