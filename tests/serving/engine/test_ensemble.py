"""What an ensemble does with a request, and what it asks of its models."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from serving.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Unavailable,
)
from serving.types import RequestedOutput
from tests.ensembles import ensemble, step
from tests.serving.engine.ensembles import BOTH, CHAIN, FORK, HEAD, ONE, ROWS, outputs, tensors_of
from tests.serving.engine.models import Gate, Models, double, let_others_run, tensor


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    async with Models() as models:
        yield models


async def test_each_step_takes_what_the_one_before_it_has_made(models: Models) -> None:
    models.add("a", double)
    models.add("b", lambda x: x + 1)
    models.add_ensemble("e", CHAIN, version="3")

    response = await models.ask("e", tensor(ROWS), id="7")

    assert outputs(response) == {"out": (2 * ROWS + 1).tolist()}
    assert (response.model, response.version, response.id) == ("e", "3", "7")


async def test_steps_that_need_nothing_of_each_other_run_at_the_same_time(models: Models) -> None:
    gates = Gate(), Gate()
    for name, gate in zip("ab", gates, strict=True):
        models.add(name, gate)
    models.add_ensemble("e", FORK)

    asked = asyncio.create_task(models.ask("e", tensor(ROWS)))
    for gate in gates:  # both have begun before either has ended
        await gate.arrived.wait()
    for gate in gates:
        gate.open()

    assert outputs(await asked) == {"one": (2 * ROWS).tolist(), "other": (2 * ROWS).tolist()}


async def test_a_step_starts_as_soon_as_its_own_inputs_exist(models: Models) -> None:
    slow = Gate()
    models.add("slow", slow)
    models.add("quick")
    last = Gate()
    models.add("last", last)
    models.add_ensemble(
        "e",
        ensemble(
            step("slow", "x=in", "y=one"),
            step("quick", "x=in", "y=mid"),
            step("last", "x=mid", "y=other"),
            head=HEAD,
            tensors=BOTH,
        ),
    )

    asked = asyncio.create_task(models.ask("e", tensor(ROWS)))
    await last.arrived.wait()  # while `slow` still runs
    slow.open()
    last.open()

    assert outputs(await asked)["other"] == (4 * ROWS).tolist()


async def test_only_the_steps_that_a_requested_output_needs_run(models: Models) -> None:
    one, other = models.add("a"), models.add("b")
    models.add_ensemble("e", FORK)

    response = await models.ask("e", tensor(ROWS), outputs=(RequestedOutput("other"),))

    assert outputs(response) == {"other": (2 * ROWS).tolist()}
    assert (one.ran, other.ran) == ([], [(2, 4)])


async def test_outputs_come_in_the_order_in_which_they_are_asked_for(models: Models) -> None:
    models.add("a")
    models.add("b")
    models.add_ensemble("e", FORK)

    response = await models.ask(
        "e", tensor(ROWS), outputs=(RequestedOutput("other"), RequestedOutput("one"))
    )

    assert list(outputs(response)) == ["other", "one"]


async def test_an_output_that_is_an_input_needs_no_step(models: Models) -> None:
    session = models.add("a")
    passed = ONE.replace(
        "ensemble_scheduling",
        'output { name: "in" data_type: TYPE_FP32 dims: 4 }\nensemble_scheduling',
    )
    models.add_ensemble("e", passed)

    response = await models.ask("e", tensor(ROWS), outputs=(RequestedOutput("in"),))

    assert outputs(response) == {"in": ROWS.tolist()}
    assert session.ran == []
    assert response.parameters == {}


async def test_an_ensemble_may_be_a_step_of_another_one(models: Models) -> None:
    models.add("a")
    models.add("b")
    models.add_ensemble("inner", CHAIN)
    models.add_ensemble(
        "outer",
        ensemble(step("inner", "in=in", "out=mid"), step("a", "x=mid", "y=out"), head=HEAD),
    )

    assert outputs(await models.ask("outer", tensor(ROWS))) == {"out": (8 * ROWS).tolist()}


async def test_a_pinned_version_stays_and_the_latest_one_is_followed(models: Models) -> None:
    models.add("a", lambda x: x + 1, version="1")
    models.add("a", lambda x: x + 2, version="2")
    models.add_ensemble("pinned", ensemble(step("a", "x=in", "y=out", version=1), head=HEAD))
    models.add_ensemble("latest", ONE)
    zeros = tensor(np.zeros((1, 4)))

    assert outputs(await models.ask("pinned", zeros))["out"][0] == [1.0] * 4
    assert outputs(await models.ask("latest", zeros))["out"][0] == [2.0] * 4
    models.add("a", lambda x: x + 3, version="3")
    assert outputs(await models.ask("pinned", zeros))["out"][0] == [1.0] * 4
    assert outputs(await models.ask("latest", zeros))["out"][0] == [3.0] * 4


@pytest.mark.parametrize(
    ("ensemble_batch", "tensors", "batch", "dims", "given", "ran"),
    [
        # Where one states the batch that the other implies, tensors pass as they are.
        (0, "[-1, 4]", 8, (4,), (3, 4), (3, 4)),
        (0, "[2, 4]", 8, (4,), (2, 4), (2, 4)),
        (8, "[4]", 0, (-1, 4), (3, 4), (3, 4)),
        # A batch of one gets its dimension, or loses it.
        (0, "[4]", 8, (4,), (4,), (1, 4)),
        (8, "[4]", 0, (4,), (1, 4), (4,)),
    ],
)
async def test_a_batch_passes_between_models_that_batch_and_models_that_do_not(
    models: Models,
    ensemble_batch: int,
    tensors: str,
    batch: int,
    dims: tuple[int, ...],
    given: tuple[int, ...],
    ran: tuple[int, ...],
) -> None:
    session = models.add("a", batch=batch, dims=dims)
    models.add_ensemble(
        "e",
        ensemble(
            step("a", "x=in", "y=out"),
            head=f'platform: "ensemble" max_batch_size: {ensemble_batch}',
            tensors=tensors_of(tensors),
        ),
    )

    response = await models.ask("e", tensor(np.ones(given)))

    assert session.ran == [ran]
    assert response.outputs[0].array.shape == given


async def test_rows_for_a_model_that_takes_one_at_a_time_are_refused(models: Models) -> None:
    models.add("a", batch=0)
    models.add_ensemble("e", ONE)

    with pytest.raises(
        InvalidArgument, match=r"input 'x' for model 'a'. Expected \[4\], got \[2,4\]"
    ):
        await models.ask("e", tensor(ROWS))


async def test_a_reshape_of_the_ensemble_is_made_before_and_undone_after(models: Models) -> None:
    session = models.add("a")
    models.add_ensemble(
        "e",
        ensemble(
            step("a", "x=in", "y=out"),
            head=HEAD,
            tensors=tensors_of("[2, 2] reshape { shape: 4 }"),
        ),
    )

    response = await models.ask("e", tensor(np.ones((3, 2, 2))))

    assert session.ran == [(3, 4)]
    assert response.outputs[0].array.shape == (3, 2, 2)


async def test_what_varies_is_held_against_the_models_when_it_is_known(models: Models) -> None:
    models.add("a", dims=(-1,))
    models.add("b")
    models.add_ensemble(
        "e",
        ensemble(
            step("a", "x=in", "y=mid"),
            step("b", "x=mid", "y=out"),
            head=HEAD,
            tensors=tensors_of("[4]").replace("dims: [4]", "dims: [-1]", 1),
        ),
    )

    with pytest.raises(InvalidArgument) as failure:
        await models.ask("e", tensor(np.ones((1, 3))))

    assert failure.value.message.startswith("in ensemble 'e', step 1 of model 'b': ")
    assert "unexpected shape for input 'x' for model 'b'" in failure.value.message


async def test_an_optional_input_that_is_not_sent_is_not_passed_on(models: Models) -> None:
    models.add("a", batch=0)
    optional = (
        'input { name: "more" data_type: TYPE_FP32 dims: 4 optional: true }\n'
        'output { name: "more out" data_type: TYPE_FP32 dims: 4 }\n'
    )
    text = ensemble(
        step("a", "x=in", "y=out"),
        'step { model_name: "a" model_version: -1 input_map { key: "x" value: "more" } '
        'output_map { key: "y" value: "more out" } }',
        tensors=tensors_of("[4]") + optional,
    )
    models.add_ensemble("e", text)
    given = tensor(np.ones(4))

    response = await models.ask("e", given, outputs=(RequestedOutput("out"),))
    with pytest.raises(InvalidArgument, match=r"step 1 of model 'a'.*expected 1 inputs but got 0"):
        await models.ask("e", given)

    assert outputs(response) == {"out": [2.0] * 4}


async def test_requests_for_an_ensemble_share_the_batches_of_its_models(models: Models) -> None:
    busy = Gate()
    first = models.add("a", busy)
    second = models.add(
        "b", batching="preferred_batch_size: 6 max_queue_delay_microseconds: 1000000"
    )
    models.add_ensemble("e", CHAIN)
    occupying = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await busy.arrived.wait()

    asked = [asyncio.create_task(models.ask("e", tensor(ROWS))) for _ in range(2)]
    # One that goes to the model itself shares the batch as well.
    asked.append(asyncio.create_task(models.ask("a", tensor(ROWS, "x"))))
    await let_others_run()
    direct = asyncio.create_task(models.ask("b", tensor(ROWS, "x")))
    busy.open()
    await asyncio.gather(occupying, direct, *asked)

    assert first.ran == [(2, 4), (6, 4)]
    assert second.ran == [(6, 4)]


async def test_parameters_pass_to_the_steps(models: Models) -> None:
    busy = Gate()
    models.add("a", busy, batching="default_queue_policy { allow_timeout_override: true }")
    models.add_ensemble("e", ONE)
    occupying = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await busy.arrived.wait()

    with pytest.raises(DeadlineExceeded, match="Request timeout expired"):
        await models.ask("e", tensor(ROWS), parameters={"timeout": 1})
    busy.open()
    await occupying


@pytest.mark.parametrize(
    ("parameters", "answered"),
    [
        ({}, {"sequence_id": 0, "sequence_start": False, "sequence_end": False}),
        (
            {"sequence_id": 5, "sequence_start": True, "own": 1},
            {"sequence_id": 5, "sequence_start": True, "sequence_end": False},
        ),
    ],
)
async def test_an_answer_tells_of_the_sequence_as_triton_does(
    models: Models, parameters: dict[str, int], answered: dict[str, int]
) -> None:
    models.add("a")
    models.add_ensemble("e", ONE)

    response = await models.ask("e", tensor(ROWS), parameters=parameters)

    assert response.parameters == answered


async def test_a_request_is_held_against_the_ensembles_own_signature(models: Models) -> None:
    session = models.add("a")
    models.add_ensemble("e", ONE)

    for faulty, message in (
        (tensor(ROWS, "x"), "unexpected inference input 'x' for model 'e'"),
        (tensor(np.ones((9, 4))), "batch-size must be <= 8 for 'e'"),
        (tensor(np.ones((1, 5))), "unexpected shape for input 'in' for model 'e'"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            await models.ask("e", faulty)
    with pytest.raises(InvalidArgument, match="unexpected inference output 'y' for model 'e'"):
        await models.ask("e", tensor(ROWS), outputs=(RequestedOutput("y"),))

    assert session.ran == []


async def test_classes_are_named_by_the_labels_of_the_model_that_writes_them(
    models: Models,
) -> None:
    models.add("a", labels=("ant", "bee", "cow", "dog"))
    models.add_ensemble("inner", ONE)
    models.add_ensemble("outer", ensemble(step("inner", "in=in", "out=out"), head=HEAD))
    wanted = (RequestedOutput("out", classification=1),)

    response = await models.ask("outer", tensor(ROWS), outputs=wanted)

    assert outputs(response) == {"out": [[b"6.000000:3:dog"], [b"14.000000:3:dog"]]}


async def test_an_ensemble_counts_itself_and_each_of_its_models_what_it_has_done(
    models: Models,
) -> None:
    for name in "ab":
        models.add(name)
    models.add_ensemble("e", CHAIN)

    for rows in (ROWS, ROWS[:1], ROWS):
        response = await models.ask("e", tensor(rows))

    own = models.find("e", "").statistics
    assert (own.inference_count, own.execution_count, own.success.count) == (5, 3, 3)
    assert sorted((rows, one.compute_infer.count) for rows, one in own.batches.items()) == [
        (1, 1),
        (2, 2),
    ]
    steps = [models.find(name, "").statistics for name in "ab"]
    assert [one.execution_count for one in steps] == [3, 3]
    for phase in ("compute_input", "compute_infer", "compute_output"):
        assert getattr(own, phase).ns == sum(getattr(one, phase).ns for one in steps)
    assert own.queue.ns < sum(one.queue.ns for one in steps)
    assert own.success.ns >= max(one.success.ns for one in steps)
    assert response.timing is not None
    assert response.timing.batch_rows == 2


async def test_who_asked_is_told_what_the_steps_have_waited(models: Models) -> None:
    for name in "ab":
        models.add(name)
    models.add_ensemble("e", CHAIN)

    response = await models.ask("e", tensor(ROWS))

    steps = [models.find(name, "").statistics for name in "ab"]
    assert response.timing is not None
    assert response.timing.queue == sum(one.queue.ns for one in steps) > 0
    assert 0 < response.timing.company <= response.timing.queue


async def test_closing_waits_for_the_requests_and_refuses_others(models: Models) -> None:
    gate = Gate()
    models.add("a", gate)
    models.add("b")
    servable = models.add_ensemble("e", CHAIN)
    asked = asyncio.create_task(models.ask("e", tensor(ROWS)))
    await gate.arrived.wait()

    closing = asyncio.create_task(servable.close())
    await let_others_run()
    with pytest.raises(Unavailable):
        await models.ask("e", tensor(ROWS))
    assert not closing.done()
    gate.open()

    assert outputs(await asked) == {"out": (4 * ROWS).tolist()}
    await closing
