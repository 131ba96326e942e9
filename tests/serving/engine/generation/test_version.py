"""Texts in one running batch: each as if it were alone, joining and leaving between two steps."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from serving.engine.assemble import assemble
from serving.engine.backends.characters import Characters
from serving.engine.backends.generation import GenerationSession
from serving.engine.batching.queue import BatchQueue
from serving.engine.generation.decoder import Decoder
from serving.engine.generation.generation import Generation
from serving.engine.generation.generator import Generator
from serving.engine.generation.sampling import Sampling
from serving.errors import (
    DeadlineExceeded,
    Decoupled,
    Internal,
    InvalidArgument,
    LoadFailed,
    Overloaded,
    Unavailable,
)
from serving.statistics import FailureReason
from tests.serving.engine.batching.driving import Clock
from tests.serving.engine.batching.policies import policy
from tests.serving.engine.generation.adding import (
    ALPHABET,
    CONTEXT,
    AddingGraph,
    Gate,
    foretold,
    opened,
    request,
    responses,
    served,
    text_of,
    written,
)
from tests.serving.engine.models import let_others_run


async def test_a_text_goes_on_beyond_the_context() -> None:
    async with served() as servable:
        assert await written(servable, "cab", max_tokens=50) == foretold("cab", 50)


async def test_a_prompt_may_fill_the_context() -> None:
    prompt = "hgfedcba"
    assert len(prompt) == CONTEXT
    async with served() as servable:
        assert await written(servable, prompt, max_tokens=5) == foretold(prompt, 5)


async def test_every_text_is_as_if_it_were_alone() -> None:
    prompts = {f"{'abcdefghijk'[i]}{'bcd'[i % 3] * (i % 7)}": 1 + 5 * i % 23 for i in range(11)}
    async with served(rows=3) as servable:
        texts = await asyncio.gather(
            *(written(servable, prompt, max_tokens=count) for prompt, count in prompts.items())
        )
    assert texts == [foretold(prompt, count) for prompt, count in prompts.items()]


async def test_a_seed_gives_the_same_text_whoever_is_beside_it() -> None:
    drawn = {"temperature": 3.0, "max_tokens": 40}
    async with served() as servable:
        alone = await written(servable, "cab", seed=7, **drawn)
        beside = await asyncio.gather(
            *(written(servable, "cab", seed=seed, **drawn) for seed in (1, 7, 2))
        )
        unseeded = {await written(servable, "cab", **drawn) for _ in range(3)}
    assert beside[1] == alone
    assert len({alone, *beside, *unseeded}) == 6


async def test_no_more_texts_are_written_at_a_time_than_there_are_rows() -> None:
    gate = Gate()
    gate.open()
    async with served(AddingGraph(gate), rows=3) as servable:
        await asyncio.gather(*(written(servable, "a", max_tokens=20) for _ in range(8)))
    assert max(gate.rows) == 3


async def test_a_text_joins_between_two_steps_of_another() -> None:
    gate = Gate()
    async with served(AddingGraph(gate)) as servable:
        long = asyncio.create_task(written(servable, "cab", max_tokens=60))
        gate.permit(1)
        async with aclosing(servable.stream(request("ab", max_tokens=60))) as stream:
            gate.permit(3)
            await anext(stream)
            assert not long.done()
        gate.open()
        assert await long == foretold("cab", 60)


async def test_whoever_goes_leaves_the_row_to_the_next() -> None:
    gate = Gate()
    async with served(AddingGraph(gate), rows=1) as servable:
        gate.permit(1)
        async with aclosing(servable.stream(request("cab", max_tokens=4096))) as stream:
            await anext(stream)
            waiting = asyncio.create_task(written(servable, "ab", max_tokens=5))
        gate.permit(7)
        assert await waiting == foretold("ab", 5)
        assert len(gate.rows) <= 7
        gate.open()
    assert servable.statistics.failures[FailureReason.CANCELED] == 1


async def test_who_finds_the_queue_full_is_refused_at_once() -> None:
    gate = Gate()
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"
    async with served(AddingGraph(gate), rows=1, more=queue) as servable:
        tasks = [asyncio.create_task(written(servable, "a", max_tokens=2))]
        await let_others_run()  # the first has the row, the others the queue
        tasks += [asyncio.create_task(written(servable, "a", max_tokens=2)) for _ in range(2)]
        await let_others_run()
        assert servable.statistics.pending == 2
        with pytest.raises(Overloaded, match="Exceeds maximum queue size of 2 requests"):
            await written(servable, "a")
        gate.open()
        assert await asyncio.gather(*tasks) == [foretold("a", 2)] * 3


async def test_who_waits_for_a_row_beyond_the_queue_timeout_is_refused() -> None:
    gate = Gate()
    queue = "dynamic_batching { default_queue_policy { allow_timeout_override: true } }"
    async with served(AddingGraph(gate), rows=1, more=queue) as servable:
        first = asyncio.create_task(written(servable, "a", max_tokens=2))
        await let_others_run()
        second = asyncio.create_task(written(servable, "a", timeout=1))
        await let_others_run()
        gate.open()
        with pytest.raises(DeadlineExceeded, match="Request timeout expired"):
            await second
        assert await first == foretold("a", 2)


async def test_a_failed_step_fails_its_texts_and_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks(rows: int) -> None:
        raise Internal("it broke")

    graph = AddingGraph(breaks)
    async with served(graph) as servable:
        failed = await asyncio.gather(
            *(written(servable, "ab") for _ in range(2)), return_exceptions=True
        )
        graph.before = lambda rows: None
        assert await written(servable, "cab", max_tokens=9) == foretold("cab", 9)
    assert [str(error) for error in failed] == ["it broke", "it broke"]
    assert "version 1: it broke" in caplog.text
    assert failed[0] is not failed[1]


async def test_a_stop_text_ends_it_and_is_not_shown() -> None:
    whole = foretold("cab", 30)
    stop = whole[7:10]
    async with served() as servable:
        pieces = await responses(servable, request("cab", stop=["zz", stop], max_tokens=30))
    assert text_of(pieces) == whole[: whole.index(stop)]
    assert pieces[-1].parameters["finish_reason"] == "stop"


async def test_the_last_response_says_why_and_how_many() -> None:
    async with served() as servable:
        pieces = await responses(servable, request("cab", max_tokens=12))
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].parameters == {"finish_reason": "length", "completion_tokens": 12}
    assert not any(piece.parameters for piece in pieces[:-1])


@pytest.mark.parametrize(
    ("over_one_response", "parameters"), [(True, {}), (False, {"stream": False})]
)
async def test_who_wants_one_response_gets_the_whole_text(
    over_one_response: bool, parameters: dict[str, Any]
) -> None:
    asked = replace(
        request("cab", max_tokens=12, **parameters), wants_one_response=over_one_response
    )
    async with served() as servable:
        [piece] = await responses(servable, asked)
    assert text_of([piece]) == foretold("cab", 12)
    assert piece.is_last


@pytest.mark.parametrize(
    ("prompt", "parameters", "message"),
    [
        ("", {}, "text_input: expected 1 to 8 characters.* got 0"),
        ("abcabcabc", {}, "text_input: expected 1 to 8 characters.* got 9"),
        ("aé", {}, "text_input: character 1 is 'é', which the model does not know"),
        ("a", {"max_tokens": 4097}, "'max_tokens' must be a whole number from 1 to 4096, got 4097"),
    ],
)
async def test_what_cannot_be_written_is_refused(
    prompt: str, parameters: dict[str, Any], message: str
) -> None:
    async with served() as servable:
        with pytest.raises(InvalidArgument, match=message):
            await written(servable, prompt, **parameters)
        assert servable.statistics.failures[FailureReason.OTHER] == 1


async def test_one_response_is_never_to_be_had_by_infer() -> None:
    async with served() as servable:
        with pytest.raises(Decoupled):
            await servable.infer(request("a"))


async def test_closing_writes_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    graph = AddingGraph(gate)
    servable = assemble(opened(graph, rows=1), 16, lambda *_: servable)
    accepted = [asyncio.create_task(written(servable, "cab", max_tokens=9)) for _ in range(2)]
    await let_others_run()
    closing = asyncio.create_task(servable.close())
    await let_others_run()
    with pytest.raises(Unavailable, match="being unloaded"):
        await written(servable, "a")
    gate.open()
    await closing
    assert await asyncio.gather(*accepted) == [foretold("cab", 9)] * 2
    assert graph.closed


async def test_steps_are_counted_by_their_rows() -> None:
    async with served(rows=2) as servable:
        await asyncio.gather(*(written(servable, "a", max_tokens=10) for _ in range(2)))
        counted = servable.statistics
    assert counted.inference_count == counted.success.count == 2
    rows = {size: batch.compute_infer.count for size, batch in counted.batches.items()}
    assert sum(size * steps for size, steps in rows.items()) == 20
    assert counted.execution_count == sum(rows.values())


@pytest.mark.parametrize(
    ("rows", "more", "field"),
    [
        (0, "", "max_batch_size"),
        (2, "instance_group { count: 2 }", "instance_group"),
        (2, "dynamic_batching { max_queue_delay_microseconds: 5 }", "max_queue_delay_microseconds"),
        (2, "dynamic_batching { preserve_ordering: true }", "preserve_ordering"),
    ],
)
async def test_what_a_generation_cannot_have_is_refused_at_the_load(
    rows: int, more: str, field: str
) -> None:
    with pytest.raises(LoadFailed, match=field):
        async with served(rows=rows, more=more):
            pass


async def test_the_load_is_the_wait_for_a_row_by_how_long_texts_have_one() -> None:
    clock, gate = Clock(), Gate()
    characters = Characters({character: i for i, character in enumerate(ALPHABET)})
    decoder = Decoder(GenerationSession(AddingGraph(gate), characters, Path("m/1")), 1)
    queue = BatchQueue[Generation](policy(max_rows=1, merge=False))
    generator = Generator(decoder, 1, queue, characters.decode, clock=clock)
    first, second = (Generation(characters.encode("cab"), Sampling(1)) for _ in range(2))
    assert generator.wait == 0
    generator.begin(first)
    await let_others_run()
    clock.now = 60
    assert generator.wait == 60  # as long as the first has taken already
    generator.begin(second)
    assert generator.wait == 120
    gate.permit(1)
    await first.whole()
    await let_others_run()
    clock.now = 1000
    assert generator.wait == 60  # as long as the first has taken in all
    gate.open()
    await second.whole()
    await let_others_run()
    assert generator.wait == 0
    await generator.close()


async def test_a_model_of_texts_has_a_load() -> None:
    gate = Gate()
    async with served(AddingGraph(gate), rows=1) as servable:
        assert servable.statistics.wait == 0
        writing = asyncio.create_task(written(servable, "a", max_tokens=2))
        await let_others_run()
        assert (servable.statistics.wait or 0) > 0
        gate.open()
        await writing


async def test_a_text_that_is_whole_says_where_its_time_went() -> None:
    async with served() as servable:
        asked = replace(request("cab", max_tokens=5), wants_one_response=True)
        [whole] = await responses(servable, asked)
        pieces = await responses(servable, request("cab", max_tokens=5))
    assert whole.timing is not None
    assert whole.timing.compute_input > 0 < whole.timing.compute_infer
    assert [piece.timing is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
