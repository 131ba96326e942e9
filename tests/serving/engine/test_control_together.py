"""Loads, unloads and requests side by side, while folders change: what holds whatever happens."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.embedded import EmbeddedEngine
from serving.errors import NotFound, ServingError, Unavailable
from serving.types import LoadOverride
from tests.serving.engine.numbered import (
    ALL,
    PLAIN,
    SECONDS,
    Folders,
    Numbers,
    ask,
    engine_over,
    index,
)

MODELS: Final = ("a", "b", "c")
ENSEMBLES: Final[Mapping[str, tuple[str, ...]]] = {"inner": ("a", "b"), "outer": ("inner", "c")}
NAMES: Final = (*MODELS, *ENSEMBLES)
# What a client brings, with all versions in service.
GIVEN: Final = json.dumps(
    {
        "backend": "identity",
        "version_policy": {"all": {}},
        **{
            field: [{"name": name, "data_type": "TYPE_FP32", "dims": [1]}]
            for field, name in (("input", "x"), ("output", "y"))
        },
    }
)

names = st.sampled_from(NAMES)
models = st.sampled_from(MODELS)
versions = st.integers(1, 2)
steps = st.one_of(
    st.tuples(st.just("load"), names),
    st.tuples(st.just("unload"), names, st.booleans()),
    st.tuples(st.just("configure"), models),
    st.tuples(st.just("bring"), models),
    st.tuples(st.just("ask"), names),
    st.tuples(st.just("put"), models, versions, st.sampled_from((5, 6, 7, "broken"))),
    st.tuples(st.just("remove"), models, versions),
    st.tuples(st.just("compose"), st.sampled_from((("b",), ("c", "a"), ("outer",), ("a", "b")))),
    st.tuples(st.just("rewrite"), models, st.sampled_from(("", ALL, "junk: 1"))),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from((0, 1, 3))),
)


class Hustle:
    """Takes steps without waiting for what the ones before have begun."""

    def __init__(self, engine: EmbeddedEngine, folders: Folders) -> None:
        self._engine = engine
        self._folders = folders
        self._running: list[asyncio.Task[None]] = []

    async def take(self, step: str, *values: Any) -> None:
        await getattr(self, step)(*values)

    async def load(self, name: str) -> None:
        self._begin(partial(self._engine.load, name, PLAIN))

    async def configure(self, name: str) -> None:
        self._begin(partial(self._engine.load, name, LoadOverride(GIVEN)))

    async def bring(self, name: str) -> None:
        self._begin(partial(self._engine.load, name, LoadOverride(GIVEN, {"2/number": b"42"})))

    async def unload(self, name: str, with_parts: bool) -> None:
        self._begin(partial(self._engine.unload, name, with_parts))

    async def ask(self, name: str) -> None:
        self._begin(partial(ask, self._engine, name), NotFound, Unavailable)

    async def put(self, name: str, version: int, number: object) -> None:
        self._folders.put(name, version, number)

    async def remove(self, name: str, version: int) -> None:
        shutil.rmtree(self._folders.root / name / str(version), ignore_errors=True)

    async def compose(self, parts: tuple[str, ...]) -> None:
        self._folders.ensemble("inner", *parts)

    async def rewrite(self, name: str, config: str) -> None:
        self._folders.add(name, 1, config=config)

    async def leave(self, number: int) -> None:
        if self._running:
            self._running[number % len(self._running)].cancel()

    async def wait(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)

    async def settle(self) -> None:
        """Wait until nothing is under way, also of what nobody waits for any more."""
        outcomes = await asyncio.gather(*self._running, return_exceptions=True)
        # Who left before it began says so itself.
        assert all(isinstance(one, asyncio.CancelledError | None) for one in outcomes)
        await asyncio.gather(*self._engine._control._changes, return_exceptions=True)

    def _begin(self, work: Callable[[], Awaitable[object]], *refusals: type[Exception]) -> None:
        async def run() -> None:
            with suppress(asyncio.CancelledError, *(refusals or (ServingError,))):
                await work()

        self._running.append(asyncio.create_task(run()))


def broken(engine: EmbeddedEngine) -> list[str]:
    """The ensembles that serve though a part of them does not."""
    plans = {record.name: record.plan for record in engine._registry if record.serving}
    return [name for name, plan in plans.items() if plan and not plans.keys() >= set(plan.parts)]


async def hustle(steps: list[tuple[Any, ...]], root: Path) -> None:
    folders, backend = Folders(root), Numbers()
    for name in MODELS:
        folders.add(name, 1)
    for name, parts in ENSEMBLES.items():
        folders.ensemble(name, *parts)
    async with engine_over(root, backend=backend, load_model=NAMES) as engine:
        hustle = Hustle(engine, folders)
        for step in steps:
            await hustle.take(*step)
            assert not broken(engine)
        await hustle.settle()
        assert not broken(engine)
        for name, *_ in await index(engine, ready_only=True):
            await ask(engine, name)

        for name in MODELS:
            shutil.rmtree(folders.root / name)
            folders.add(name, 1)
        folders.ensemble("inner", "a", "b")
        for name in NAMES:
            await engine.load(name, PLAIN)
        assert [await ask(engine, name) for name in NAMES] == [("1", 1.0)] * len(NAMES)
        assert await engine.ready()
    assert backend.alive == 0


@settings(max_examples=10, deadline=None)
@given(st.lists(steps, min_size=30, max_size=80))
def test_whatever_is_asked_at_a_time_no_ensemble_lacks_a_part_and_all_comes_to_an_end(
    steps: list[tuple[Any, ...]],
) -> None:
    with TemporaryDirectory() as root:
        asyncio.run(asyncio.wait_for(hustle(steps, Path(root)), SECONDS))
