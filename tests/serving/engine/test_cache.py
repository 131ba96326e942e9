"""The response cache: what counts as the same request, and how much is kept."""

import gc
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from serving.dtypes import Datatype
from serving.engine.cache import ResponseCache, entry_size, request_key
from serving.types import Array, InferenceRequest, RequestedOutput, Tensor

KIB = 1024


def array_of(datatype: Datatype, values: Sequence[object]) -> Array:
    if datatype is Datatype.BYTES:
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.array(values, datatype.numpy)


def tensor(name: str, values: Sequence[object], datatype: Datatype = Datatype.FP32) -> Tensor:
    return Tensor(name, datatype, array_of(datatype, values))


def request(*inputs: Tensor, outputs: Sequence[RequestedOutput] = ()) -> InferenceRequest:
    return InferenceRequest("m", inputs, outputs=tuple(outputs))


A = tensor("a", [1, 2, 3, 4, 5, 6])
B = tensor("b", [7.0])
TEXT = Datatype.BYTES


def reshaped(tensor: Tensor, *shape: int) -> Tensor:
    return replace(tensor, array=tensor.array.reshape(shape))


def test_equal_requests_have_equal_keys() -> None:
    again = tensor("a", [1, 2, 3, 4, 5, 6])
    strided = replace(A, array=np.repeat(A.array, 2)[::2])

    assert request_key(request(A, B)) == request_key(request(again, B))
    assert request_key(request(A)) == request_key(request(strided))


def test_what_changes_no_answer_is_no_part_of_the_key() -> None:
    named = replace(request(A, B), id="7", version="1", deadline=1, parameters={"priority": 3})

    assert request_key(named) == request_key(request(B, A))


@pytest.mark.parametrize(
    "other",
    [
        request(A),
        request(A, replace(B, name="c")),
        request(A, tensor("b", [7.000001])),
        request(reshaped(A, 2, 3), B),
        request(reshaped(A, 3, 2), B),
        request(A, tensor("b", [7], Datatype.INT32)),
        request(replace(A, array=B.array), replace(B, array=A.array)),
        request(A, B, outputs=[RequestedOutput("y")]),
        request(A, B, outputs=[RequestedOutput("y", classification=1)]),
        request(A, B, outputs=[RequestedOutput("y", classification=2)]),
        request(A, B, outputs=[RequestedOutput("y"), RequestedOutput("z")]),
        request(A, B, outputs=[RequestedOutput("z"), RequestedOutput("y")]),
        request(A, tensor("b", [b"7"], TEXT)),
        request(A, tensor("b", [b"7", b""], TEXT)),
        request(A, tensor("b", [b"", b"7"], TEXT)),
        request(A, tensor("b", [b"\0"], TEXT)),
        request(A, tensor("b", [], TEXT)),
        request(A, tensor("b", [])),
    ],
)
def test_requests_that_differ_in_anything_else_have_keys_of_their_own(
    other: InferenceRequest,
) -> None:
    assert request_key(other) != request_key(request(A, B))


def test_bits_decide_and_not_numbers() -> None:
    """What compares equal may be answered differently, and what does not, alike."""
    assert request_key(request(tensor("a", [0.0]))) != request_key(request(tensor("a", [-0.0])))
    nan = request_key(request(tensor("a", [np.nan])))
    assert nan == request_key(request(tensor("a", [np.nan])))


TENSORS = st.builds(
    tensor,
    st.sampled_from(["a", "b", "a', 'FP32", ""]),
    st.lists(st.binary(max_size=3), max_size=3),
    st.just(TEXT),
)


def identity(request: InferenceRequest) -> object:
    """The same for two requests if, and only if, they are the same."""
    inputs = {one.name: (one.array.shape, one.array.tolist()) for one in request.inputs}
    return inputs, request.outputs


REQUESTS = st.builds(
    lambda inputs, outputs: request(*inputs, outputs=outputs),
    st.lists(TENSORS, max_size=2, unique_by=lambda one: one.name),
    st.lists(
        st.builds(RequestedOutput, st.sampled_from(["y", "z"]), st.integers(0, 1)), max_size=2
    ),
)


@given(REQUESTS, REQUESTS)
def test_keys_are_equal_exactly_where_requests_are(
    one: InferenceRequest, other: InferenceRequest
) -> None:
    assert (request_key(one) == request_key(other)) == (identity(one) == identity(other))


@pytest.mark.parametrize("datatype", Datatype)
@pytest.mark.parametrize("shape", [(2, 1), (0, 3), ()])
def test_every_datatype_and_shape_is_kept_as_it_is(
    datatype: Datatype, shape: tuple[int, ...]
) -> None:
    content = b"\x01" if datatype is TEXT else 1
    array = np.full(shape, content, datatype.numpy)
    cache = ResponseCache(KIB)
    key = request_key(request(Tensor("a", datatype, array)))

    assert cache.insert("m", key, [Tensor("y", datatype, array)])
    found = cache.lookup("m", key)

    assert found is not None
    assert (found[0].name, found[0].datatype) == ("y", datatype)
    assert found[0].array.dtype == array.dtype
    assert np.array_equal(found[0].array, array)


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    cache = ResponseCache(KIB)
    batch = np.arange(8, dtype=np.float32)
    cache.insert("m", b"k", [Tensor("y", Datatype.FP32, batch[2:4])])
    batch[:] = 0

    found = cache.lookup("m", b"k")

    assert found is not None
    assert found[0].array.tolist() == [2, 3]
    assert found[0].array.base is None
    with pytest.raises(ValueError, match="read-only"):
        found[0].array[0] = 1


def test_the_least_recently_used_entry_makes_room() -> None:
    outputs = [tensor("y", [1.0])]
    cache = ResponseCache(3 * entry_size(outputs))
    for key in (b"1", b"2", b"3"):
        cache.insert("m", key, outputs)
    cache.lookup("m", b"1")
    cache.insert("m", b"4", outputs)

    assert [cache.lookup("m", key) is not None for key in (b"1", b"2", b"3", b"4")] == [
        True,
        False,
        True,
        True,
    ]
    assert cache.statistics.evictions == 1


def test_what_exceeds_the_cache_is_not_kept_and_takes_nobodys_place() -> None:
    small, large = [tensor("y", [1.0])], [tensor("y", np.zeros(KIB).tolist())]
    cache = ResponseCache(2 * KIB)
    cache.insert("m", b"small", small)

    assert not cache.insert("m", b"large", large)

    assert cache.lookup("m", b"large") is None
    assert cache.lookup("m", b"small") is not None


def test_a_second_answer_to_the_same_request_replaces_the_first() -> None:
    cache = ResponseCache(4 * KIB)
    cache.insert("m", b"k", [tensor("y", [1.0])])
    used = cache.statistics.used
    cache.insert("m", b"k", [tensor("y", [2.0])])

    found = cache.lookup("m", b"k")

    assert found is not None
    assert found[0].array.tolist() == [2.0]
    assert (cache.statistics.used, cache.statistics.entries) == (used, 1)
    assert cache.statistics.evictions == 0


def test_a_version_that_goes_takes_its_own_answers_with_it() -> None:
    cache = ResponseCache(8 * KIB)
    for owner in ("old", "new"):
        cache.insert(owner, b"k", [tensor("y", [1.0])])
    cache.drop("old")

    assert cache.lookup("old", b"k") is None
    assert cache.lookup("new", b"k") is not None
    assert cache.statistics.entries == 1


def test_lookups_and_insertions_are_counted() -> None:
    cache = ResponseCache(KIB)
    cache.lookup("m", b"k")
    cache.insert("m", b"k", [A])
    for _ in range(2):
        cache.lookup("m", b"k")

    statistics = cache.statistics
    assert (statistics.hits, statistics.misses, statistics.entries) == (2, 1, 1)
    assert statistics.used == entry_size([A])
    assert statistics.lookup_ns > 0
    assert statistics.insertion_ns > 0


@given(
    st.integers(0, 4 * KIB),
    st.lists(
        st.tuples(
            st.sampled_from(["insert", "lookup", "drop"]),
            st.sampled_from(["one", "other"]),
            st.sampled_from([b"1", b"2", b"3", b"4", b"5"]),
            st.lists(st.binary(max_size=400), max_size=3),
        ),
        max_size=30,
    ),
)
def test_the_cache_never_exceeds_its_size_and_never_gives_a_wrong_answer(
    size: int, operations: list[tuple[str, str, bytes, list[bytes]]]
) -> None:
    cache = ResponseCache(size)
    latest: dict[tuple[str, bytes], list[bytes]] = {}
    for operation, owner, key, content in operations:
        if operation == "insert":
            outputs = [tensor("y", content, TEXT)]
            kept = cache.insert(owner, key, outputs)
            assert kept == (entry_size(outputs) <= size)
            if kept:
                latest[owner, key] = content
        elif operation == "lookup":
            found = cache.lookup(owner, key)
            assert found is None or found[0].array.tolist() == latest[owner, key]
        else:
            cache.drop(owner)
            latest = {place: held for place, held in latest.items() if place[0] != owner}
        assert 0 <= cache.statistics.used <= size
        assert (cache.statistics.used == 0) == (cache.statistics.entries == 0)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize(
    ("datatype", "content"),
    [(Datatype.FP32, [1.0]), (Datatype.FP32, [1.0] * 1000), (TEXT, [b"cat", b"dog"])],
)
def test_the_memory_that_it_takes_is_the_memory_that_it_counts(
    datatype: Datatype, content: list[object], outputs: int
) -> None:
    size = 512 * KIB
    tracemalloc.start()
    try:
        cache = ResponseCache(size)
        before, _ = tracemalloc.get_traced_memory()
        for index in range(2000):
            # The texts are new objects each time, as they are when a request brings them.
            fresh = [bytes(bytearray(one)) if isinstance(one, bytes) else one for one in content]
            made = [tensor(f"y{output}", fresh, datatype) for output in range(outputs)]
            cache.insert("m", index.to_bytes(32), made)
        del fresh, made
        gc.collect()  # empties the interpreter's own stores of small objects, too
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert cache.statistics.evictions > 0
    assert after - before <= size
