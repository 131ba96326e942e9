"""Models that lie in S3 are read whole, as they are at one moment, and fetched once."""

import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from serving.errors import LoadFailed, Unavailable
from serving.storage.mirror import Mirror
from serving.storage.store import Store
from serving.storage.trees import Tree
from tests.serving.storage.conftest import MirrorOf
from tests.serving.storage.s3 import PREFIX, S3, Bucket

BLOCK = 64 * 1024
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "BLOCK", BLOCK)


def fetch(mirror: Mirror, name: str = "a") -> Tree:
    look = mirror.look(name)
    assert look
    return look()


def contents(tree: Tree) -> dict[str, bytes]:
    files = (path for path in sorted(tree.path.rglob("*")) if path.is_file())
    return {path.relative_to(tree.path).as_posix(): path.read_bytes() for path in files}


def failure(mirror: Mirror, name: str = "a") -> str:
    with pytest.raises(LoadFailed) as raised:
        fetch(mirror, name)
    return raised.value.message


def test_a_model_is_read_as_it_lies_in_the_bucket(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/config.pbtxt", "")
    bucket.put("a/1/model.onnx", b"one")
    bucket.put("a/1/data/weights +%41ä", b"w")
    bucket.put("ab/1/model.onnx", b"another model")
    bucket.put("a/2/", b"")  # as consoles mark a folder
    reader = mirror(bucket.url)
    assert sorted(reader.models()) == ["a", "ab"]
    assert contents(fetch(reader)) == {
        "a/config.pbtxt": b"",
        "a/1/model.onnx": b"one",
        "a/1/data/weights +%41ä": b"w",
    }
    assert reader.look("nobody") is None


def test_what_was_fetched_is_not_fetched_again(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/model.onnx", b"one")
    bucket.put("a/2/model.onnx", b"two")
    fetch(mirror(bucket.url))
    bucket.server.requests.clear()
    other = mirror(bucket.url)
    assert fetch(other) is fetch(other)
    assert bucket.server.requests == []
    bucket.put("a/2/model.onnx", b"another two")
    assert contents(fetch(other))["a/2/model.onnx"] == b"another two"
    [request] = bucket.server.requests
    assert "/a/2/model.onnx " in request


def test_files_that_have_not_changed_are_the_same_files(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/model.onnx", b"one")
    reader = mirror(bucket.url)
    before = fetch(reader)
    bucket.put("a/2/model.onnx", b"two")
    after = fetch(reader)
    assert after.path != before.path
    assert os.path.samefile(before.path / "a/1/model.onnx", after.path / "a/1/model.onnx")


def test_a_folder_goes_when_nobody_reads_it_any_more(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/model.onnx", b"one")
    reader = mirror(bucket.url)
    before = fetch(reader)
    path = before.path
    bucket.put("a/1/model.onnx", b"two")
    after = fetch(reader)
    assert contents(before) == {"a/1/model.onnx": b"one"}
    assert contents(after) == {"a/1/model.onnx": b"two"}
    del before
    assert not path.exists()


def test_a_model_that_changes_while_it_is_fetched_is_never_a_mixture(
    bucket: Bucket, mirror: MirrorOf
) -> None:
    for part in ("x", "y"):
        bucket.put(f"a/1/{part}", b"old" * BLOCK)  # of several blocks each
    changed = threading.Event()

    def change(method: str, path: str, byte_range: str) -> None:
        if byte_range.startswith(f"bytes={BLOCK}-") and not changed.is_set():
            changed.set()
            for part in ("x", "y"):
                bucket.put(f"a/1/{part}", b"new" * BLOCK)

    bucket.server.hook = change
    found = contents(fetch(mirror(bucket.url)))
    assert changed.is_set()
    assert found == {"a/1/x": b"new" * BLOCK, "a/1/y": b"new" * BLOCK}


def test_what_changes_while_it_is_fetched_may_change_back(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/x", b"old")

    def change(method: str, path: str, byte_range: str) -> None:
        if byte_range and len(bucket.server.requests) == 1:
            bucket.put("a/1/x", b"new")

    bucket.server.hook = change
    reader = mirror(bucket.url)
    assert contents(fetch(reader)) == {"a/1/x": b"new"}
    bucket.put("a/1/x", b"old")
    assert contents(fetch(reader)) == {"a/1/x": b"old"}


def test_a_model_that_never_holds_still_is_not_read(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/x", b"0")

    def change(method: str, path: str, byte_range: str) -> None:
        if byte_range:
            bucket.put("a/1/x", os.urandom(8))

    bucket.server.hook = change
    assert "has changed with each of 5 attempts" in failure(mirror(bucket.url))


def test_what_goes_while_it_is_fetched_is_gone(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/x", b"x")
    bucket.put("a/2/x", b"x")
    reader = mirror(bucket.url)
    look = reader.look("a")
    assert look
    bucket.remove("a/2/x")
    assert contents(look()) == {"a/1/x": b"x"}


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "removed", "note"])
def test_what_is_damaged_on_the_disk_is_noticed_and_fetched_again(
    bucket: Bucket, mirror: MirrorOf, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("a/1/model.onnx", b"content")
    fetch(mirror(bucket.url))
    [file] = (cache / "objects").glob("*/*")
    [note] = (cache / "known").iterdir()
    file.chmod(0o644)
    match damage:
        case "other bytes":
            file.write_bytes(b"CONTENT")
        case "cut off":
            file.write_bytes(b"cont")
        case "removed":
            file.unlink()
        case "note":
            note.write_text('{"sha256": "../../../../etc/passwd"}')
    with caplog.at_level(logging.WARNING):
        found = contents(fetch(mirror(bucket.url)))
    assert found == {"a/1/model.onnx": b"content"}
    assert ("a/1/model.onnx is fetched again" in caplog.text) is (damage != "removed")


def test_what_somebody_does_to_a_folder_that_is_read_is_noticed(
    bucket: Bucket, mirror: MirrorOf
) -> None:
    bucket.put("a/1/x", b"content")
    reader = mirror(bucket.url)
    tree = fetch(reader)
    (tree.path / "a/1/x").unlink()
    tree = fetch(reader)
    assert contents(tree) == {"a/1/x": b"content"}
    (tree.path / "a/1/x").chmod(0o644)
    (tree.path / "a/1/x").write_bytes(b"CONTENT")
    assert contents(fetch(reader)) == {"a/1/x": b"content"}


def test_a_fetch_that_broke_off_goes_on_where_it_was(bucket: Bucket, mirror: MirrorOf) -> None:
    content = os.urandom(BLOCK) + os.urandom(BLOCK) + os.urandom(BLOCK)
    bucket.put("a/1/x", content)
    refused = ("403 Forbidden", DENIED)
    third = f"bytes={2 * BLOCK}-"
    bucket.server.hook = lambda method, path, part: refused if part.startswith(third) else None
    assert "Access" in failure(mirror(bucket.url))
    bucket.server.hook = None
    bucket.server.requests.clear()
    assert contents(fetch(mirror(bucket.url))) == {"a/1/x": content}
    # The last block that was written may not have come to the disk: it is fetched once more.
    first, *_ = bucket.server.requests
    assert f"bytes={BLOCK}-" in first
    assert len(bucket.server.requests) == 2


def test_servers_may_share_a_cache_and_fetch_at_the_same_time(
    bucket: Bucket, mirror: MirrorOf
) -> None:
    content = os.urandom(2 * BLOCK)
    for name in ("x", "y", "z"):
        bucket.put(f"a/1/{name}", content + name.encode())
    with ThreadPoolExecutor() as pool:
        trees = list(pool.map(fetch, [mirror(bucket.url) for _ in range(4)]))
    expected = {f"a/1/{name}": content + name.encode() for name in ("x", "y", "z")}
    assert all(contents(tree) == expected for tree in trees)


def test_a_model_that_is_asked_for_while_it_is_fetched_is_fetched_once(
    bucket: Bucket, mirror: MirrorOf
) -> None:
    bucket.put("a/1/x", b"content")
    reader = mirror(bucket.url)
    fetching, asked = threading.Event(), threading.Event()

    def wait(method: str, path: str, byte_range: str) -> None:
        if byte_range:
            fetching.set()
            assert asked.wait(60)

    bucket.server.hook = wait
    with ThreadPoolExecutor() as pool:
        first = pool.submit(fetch, reader)
        assert fetching.wait(60)
        look = reader.look("a")
        assert look
        second = pool.submit(look)
        asked.set()
        assert contents(first.result()) == contents(second.result()) == {"a/1/x": b"content"}
    assert len(bucket.server.requests) == 1


def test_objects_that_cannot_be_files_are_refused_and_nothing_is_written_elsewhere(
    bucket: Bucket, mirror: MirrorOf, tmp_path: Path
) -> None:
    for name in ("a/1/x", "a/../../../../../../x", "b/1/x", "B/1/x"):
        bucket.put_as_named(name, name.encode())
    reader = mirror(bucket.url)
    said = failure(reader)
    assert said.startswith(f"{bucket.url}/a/../../../../../../x: cannot be a file: it must be rel")
    assert contents(fetch(reader, "b")) == {"b/1/x": b"b/1/x"}
    assert contents(fetch(reader, "B")) == {"B/1/x": b"B/1/x"}
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_that_cannot_be_made_is_told(bucket: Bucket, mirror: MirrorOf, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(LoadFailed, match=r"File exists: .*; .* --model-repository-cache"):
        mirror(bucket.url)


def test_what_does_not_fit_on_the_disk_is_not_begun(
    bucket: Bucket, mirror: MirrorOf, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a/1/x", bytes(3000))
    reader = mirror(bucket.url)
    usage = shutil.disk_usage(cache)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "3.0 KB are to be fetched, and" in failure(reader)
    assert bucket.server.requests == []


def test_closing_breaks_off_what_is_being_fetched(bucket: Bucket, mirror: MirrorOf) -> None:
    bucket.put("a/1/x", bytes(2 * BLOCK))
    reader = mirror(bucket.url)

    def close(method: str, path: str, byte_range: str) -> None:
        if byte_range:
            reader.close()

    bucket.server.hook = close
    with pytest.raises(Unavailable, match="the server is stopping"):
        fetch(reader)
    assert len(bucket.server.requests) == 1
    with pytest.raises(Unavailable, match="the server is stopping"):
        fetch(reader)


@pytest.mark.parametrize("is_fetched", [False, True])
def test_closing_waits_for_no_store_that_is_silent(
    bucket: Bucket, mirror: MirrorOf, monkeypatch: pytest.MonkeyPatch, is_fetched: bool
) -> None:
    patient = {"s3": {"config_kwargs": {"read_timeout": 600}}}  # seconds
    monkeypatch.setattr("fsspec.config.conf", patient)
    bucket.put("a/1/x", b"one")
    reader = mirror(bucket.url)
    asked, ended = threading.Event(), threading.Event()

    def say_nothing(method: str, path: str, byte_range: str) -> None:
        if byte_range or not is_fetched:
            asked.set()
            ended.wait()

    bucket.server.hook = say_nothing
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fetch, reader) if is_fetched else pool.submit(reader.models)
        try:
            assert asked.wait(60)
            reader.close()
            with pytest.raises(Unavailable, match="the server is stopping"):
                waiting.result(60)
        finally:
            ended.set()


def test_a_store_that_is_not_there_is_told_with_the_cure(s3: S3, mirror: MirrorOf) -> None:
    for url, words in (
        ("s3://127.0.0.1:1/bucket", "the store does not answer: Could not connect"),
        (f"s3://{s3.address}/no-such-bucket", "there is no such bucket"),
    ):
        with pytest.raises(LoadFailed, match=f"{url}: {words}"):
            mirror(url).models()


def test_an_empty_prefix_is_none(bucket: Bucket, mirror: MirrorOf) -> None:
    with pytest.raises(LoadFailed, match=f"{PREFIX}: there is no such bucket, or nothing in it"):
        mirror(bucket.url).models()
    bucket.put("", b"")  # as consoles make a folder
    assert mirror(bucket.url).models() == []


def test_whatever_fsspec_opens_is_a_repository(mirror: MirrorOf) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/models/a/1/x", b"one")
    reader = mirror("memory://models")
    assert reader.models() == ["a"]
    assert contents(fetch(reader)) == {"a/1/x": b"one"}
    files.pipe("/models/a/1/x", b"two")
    assert contents(fetch(reader)) == {"a/1/x": b"two"}
    with pytest.raises(LoadFailed, match="no-such://a: cannot be opened: Protocol not known"):
        mirror("no-such://a")


def test_an_access_that_is_refused_is_told_with_the_credentials_it_takes(
    bucket: Bucket, mirror: MirrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.server.hook = lambda *_: ("403 Forbidden", DENIED)
    with pytest.raises(LoadFailed, match=r"access is refused: .*; give .* AWS_ACCESS_KEY_ID"):
        mirror(bucket.url).models()
    bucket.server.hook = None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(LoadFailed, match="Unable to locate credentials; give"):
        mirror(bucket.url).models()
