"""Download of one file: mirrors in turn, resumed where it broke off, checked, then renamed."""

from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from training import locks
from training.data.remote import RemoteFile, mismatch
from training.errors import DataError

ROUNDS = 2  # how often each mirror is asked
TIMEOUT = httpx.Timeout(20, connect=10)  # seconds; for each read, not for the whole file


def download(file: RemoteFile, target: Path) -> None:
    """Leaves `target` complete and verified, or raises DataError; a broken-off transfer stays
    beside it as `.part`, and the next call goes on from there. What another process downloads is
    waited for, and not asked for again."""
    try:
        with locks.held(target, wait=True):
            if target.is_file() and mismatch(target, file) is None:
                return
            failures = _ask(file, target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror})") from error
    if failures:
        tried = "\n".join(f"  {url}: {why}" for url, why in failures.items())
        raise DataError(f"{file.name} is not on this machine and could not be downloaded:\n{tried}")


def _ask(file: RemoteFile, target: Path) -> dict[str, str]:
    """Nothing where a mirror has given the file; else why each did not."""
    part = target.with_name(f"{target.name}.part")
    failures: dict[str, str] = {}
    client = httpx.Client(timeout=TIMEOUT, follow_redirects=True)
    with _progress() as progress, client:
        for url in file.urls * ROUNDS:
            try:
                _transfer(client, url, file, part, progress)
            except (httpx.HTTPError, httpx.InvalidURL, _Refused) as error:
                failures[url] = str(error) or type(error).__name__
                continue
            part.replace(target)
            return {}
    return failures


class _Refused(Exception):
    """The mirror answered, but not with the file."""


def _transfer(
    client: httpx.Client, url: str, file: RemoteFile, part: Path, progress: Progress
) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:  # complete but never renamed, or not our file at all
        have = 0
        if mismatch(part, file) is None:
            return
        part.unlink()
    # Identity: the file is itself gzip, and a transparent decoding would change its bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise _Refused(f"{response.status_code} {response.reason_phrase}")
        if not _resumes(response, have):
            have = 0
        _receive(response, file, part, have, progress)
    if problem := mismatch(part, file):
        part.unlink()
        raise _Refused(problem)


def _resumes(response: httpx.Response, have: int) -> bool:
    """Whether the body goes on where the part ends; a server may ignore Range and start anew."""
    content_range: str = response.headers.get("Content-Range", "")
    partial = response.status_code == httpx.codes.PARTIAL_CONTENT
    return partial and content_range.startswith(f"bytes {have}-")


def _receive(
    response: httpx.Response, file: RemoteFile, part: Path, have: int, progress: Progress
) -> None:
    task = progress.add_task(file.name, total=file.size, completed=have)
    with part.open("ab" if have else "wb") as opened:
        for chunk in response.iter_raw():
            opened.write(chunk)
            have += len(chunk)
            progress.update(task, completed=have)
            if have > file.size:
                break  # not our file; the check that follows says so


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
