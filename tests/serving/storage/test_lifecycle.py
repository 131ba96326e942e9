"""The control modes over a bucket: as over a folder, with what changes in it fetched first."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.engine.embedded import EmbeddedEngine
from serving.errors import LoadFailed, NotFound
from serving.location import Remote, parse
from serving.settings import ModelControlMode
from serving.types import LoadOverride
from tests.serving.engine.numbered import (
    CONFIG,
    PLAIN,
    Folders,
    Numbers,
    ask,
    engine_over,
    index,
    refusal,
)
from tests.serving.storage.s3 import Bucket

POLL = ModelControlMode.POLL


@pytest.fixture(autouse=True)
def _models(bucket: Bucket) -> None:
    for name in ("a", "b"):
        bucket.put(f"{name}/config.pbtxt", CONFIG)
        bucket.put(f"{name}/1/number", "1")
    bucket.server.requests.clear()


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


@asynccontextmanager
async def serving(
    bucket: Bucket, cache: Path, *others: Path, **settings: Any
) -> AsyncIterator[EmbeddedEngine]:
    """An engine over the bucket, which polls when it is told to only."""
    remote = parse(bucket.url)
    assert isinstance(remote, Remote)
    settings = {"repository_poll_secs": 0, "model_repository_cache": cache, **settings}
    async with engine_over(remote, *others, **settings) as engine:  # type: ignore[arg-type]
        yield engine


def fetched(bucket: Bucket) -> list[str]:
    """What was fetched, since the beginning or the last look."""
    paths = [
        request.partition(" ")[0].rpartition("/models/")[2] for request in bucket.server.requests
    ]
    bucket.server.requests.clear()
    return sorted(paths)


async def test_without_control_everything_in_the_bucket_is_served(
    bucket: Bucket, cache: Path
) -> None:
    async with serving(bucket, cache, mode=ModelControlMode.NONE) as engine:
        assert await index(engine) == [("a", "1", "READY"), ("b", "1", "READY")]
        assert await ask(engine, "a") == ("1", 1)
        bucket.put("c/1/number", "1")
        assert ("c",) in await index(engine)
    assert len(fetched(bucket)) == 4


async def test_a_poll_fetches_what_has_changed_and_reopens_no_more(
    bucket: Bucket, cache: Path, backend: Numbers
) -> None:
    bucket.put("a/config.pbtxt", CONFIG + "version_policy { all {} }")
    async with serving(bucket, cache, mode=POLL, backend=backend) as engine:
        assert fetched(bucket) == ["a/1/number", "a/config.pbtxt", "b/1/number", "b/config.pbtxt"]
        await ask(engine, "a", "1")
        await engine.poll()
        bucket.put("a/2/number", "22")
        await engine.poll()
        await engine.poll()
        assert await ask(engine, "a") == ("2", 22)
        assert fetched(bucket) == ["a/2/number"]
        assert sorted(backend.opened) == ["a/1", "a/2", "b/1"]
        [first, _] = await engine.statistics("a")
        assert first.success.count == 1


async def test_a_poll_follows_models_that_come_and_go(bucket: Bucket, cache: Path) -> None:
    async with serving(bucket, cache, mode=POLL) as engine:
        bucket.put("c/config.pbtxt", CONFIG)
        bucket.put("c/7/number", "7")
        for name in ("config.pbtxt", "1/number"):
            bucket.remove(f"b/{name}")
        await engine.poll()
        assert await index(engine, ready_only=True) == [("a", "1", "READY"), ("c", "7", "READY")]


async def test_a_version_that_is_half_uploaded_leaves_the_old_one_serving(
    bucket: Bucket, cache: Path
) -> None:
    async with serving(bucket, cache, mode=POLL) as engine:
        bucket.put("a/2/number", "half")
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        bucket.put("a/2/number", "22")
        await engine.poll()
        assert await ask(engine, "a") == ("2", 22)


async def test_while_the_store_is_away_the_models_serve_on(
    bucket: Bucket, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(bucket, cache, mode=POLL) as engine:
        bucket.server.hook = lambda *_: (
            "403 Forbidden",
            b"<Error><Code>AccessDenied</Code></Error>",
        )
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        assert f"the repositories cannot be polled: {bucket.url}: access is refused" in caplog.text
        bucket.server.hook = None
        bucket.put("a/2/number", "22")
        with caplog.at_level(logging.INFO):
            await engine.poll()
        assert "the repositories can be polled again" in caplog.text
        assert await ask(engine, "a") == ("2", 22)


async def test_whoever_asks_a_slow_store_what_there_is_holds_up_nobody_else(
    bucket: Bucket, cache: Path
) -> None:
    go_on = threading.Event()

    def hold(*_: str) -> None:
        go_on.wait()

    async with serving(bucket, cache) as engine:
        bucket.server.hook = hold
        # More than the loop has threads of its own.
        asking = [asyncio.create_task(engine.index()) for _ in range(40)]
        try:
            await asyncio.sleep(0)
            assert await asyncio.wait_for(asyncio.to_thread(int), 30) == 0
        finally:
            go_on.set()
            await asyncio.gather(*asking)


async def test_a_load_fetches_the_newest(bucket: Bucket, cache: Path) -> None:
    async with serving(bucket, cache, load_model=("a",)) as engine:
        assert fetched(bucket) == ["a/1/number", "a/config.pbtxt"]
        bucket.put("a/1/number", "11")
        assert await ask(engine, "a") == ("1", 1)
        await engine.load("a", PLAIN)
        assert await ask(engine, "a") == ("1", 11)
        bucket.put("a/1/number", "no number")
        error = await refusal(engine, "a")
        assert f"{bucket.url}/a/1: 'no number' is no number" in error.message
        assert await ask(engine, "a") == ("1", 11)
        await engine.unload("a")
        bucket.put("a/1/number", "111")
        await engine.load("a", PLAIN)
        assert await ask(engine, "a") == ("1", 111)


async def test_a_load_may_bring_its_own_configuration(bucket: Bucket, cache: Path) -> None:
    bucket.put("a/2/number", "22")
    async with serving(bucket, cache) as engine:
        version = '"version_policy": {"specific": {"versions": [1]}}'
        tensors = '[{"name": "%s", "data_type": "TYPE_FP32", "dims": [1]}]'
        config = (
            f'{{"backend": "identity", "input": {tensors % "x"}, "output": {tensors % "y"}, '
            f"{version}}}"
        )
        await engine.load("a", LoadOverride(config))
        assert await ask(engine, "a") == ("1", 1)


async def test_faults_are_told_by_the_url(bucket: Bucket, cache: Path) -> None:
    bucket.put("a/config.pbtxt", CONFIG + "nonsense: 1")
    bucket.put("b/config.pbtxt", b"\xff")
    async with serving(bucket, cache) as engine:
        assert f"{bucket.url}/a/config.pbtxt:4" in (await refusal(engine, "a")).message
        assert f"{bucket.url}/b/config.pbtxt: byte 0" in (await refusal(engine, "b")).message
        bucket.put("c/x", "")
        assert f"{bucket.url}/c: no version to serve" in (await refusal(engine, "c")).message
        assert isinstance((await refusal(engine, "d")).__cause__, NotFound)


async def test_a_name_in_a_bucket_and_in_a_folder_is_ambiguous(
    bucket: Bucket, cache: Path, tmp_path: Path
) -> None:
    folders = Folders(tmp_path / "models")
    folders.add("a", 1)
    folders.add("c", 3)
    async with serving(bucket, cache, folders.root) as engine:
        await engine.load("c", PLAIN)
        await engine.load("b", PLAIN)
        assert f"{bucket.url}/a and {folders.root}/a" in (await refusal(engine, "a")).message


async def test_a_server_whose_store_is_away_does_not_start(bucket: Bucket, cache: Path) -> None:
    bucket.server.stop()
    try:
        with pytest.raises(LoadFailed, match=f"{bucket.url}: the store does not answer"):
            async with serving(bucket, cache, mode=POLL):
                pytest.fail("it has started")
    finally:
        bucket.server.start()
