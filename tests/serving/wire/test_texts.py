"""Texts in the forms that people send them in, and the tensors that come of them."""

import sys

import numpy as np
import pytest
from tokenizers.normalizers import Lowercase

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, LoadFailed, Malformed, Unsupported
from serving.types import TensorSpec
from serving.wire import texts
from training.data import tokens

IDS = TensorSpec(texts.IDS, Datatype.INT64, (-1, -1))
MASK = TensorSpec(texts.MASK, Datatype.INT64, (-1, -1))
LENGTH = 40
TOKENIZER = tokens.learn(["a good film", "a bad film"], Lowercase(), 60, LENGTH).to_str()


@pytest.mark.parametrize(
    "body",
    [b'{"text": "a"}', b'{"inputs": "a"}', b'["a"]', b'"a"', b'{"text": ["a"]}', b'[{"text":"a"}]'],
)
def test_one_text_has_many_forms(body: bytes) -> None:
    assert texts.from_json(body) == ["a"]


def test_several_texts_stay_in_order() -> None:
    assert texts.from_json(b'[{"text": "b"}, "a"]') == ["b", "a"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"text": 1}', "text: expected a text or a list of texts"),
        (b"[]", "body: expected a text or a list of texts"),
        (b'{"text": []}', "text: expected a text or a list of texts"),
        (b'[["a"]]', "body: expected a text or a list of texts"),
        (b'{"txt": "a"}', 'an object such as {"text": "..."}'),
        (b'{"text": "a", "inputs": "b"}', 'an object such as {"text": "..."}'),
        (b"{}", 'an object such as {"text": "..."}'),
    ],
)
def test_what_is_no_text_is_refused_by_name(body: bytes, message: str) -> None:
    with pytest.raises(Malformed) as refused:
        texts.from_json(body)
    assert message in refused.value.message


def test_a_plain_body_is_one_text() -> None:
    assert texts.from_plain([("body", "so schön".encode())]) == ["so schön"]
    with pytest.raises(Malformed, match="body: byte 1 is not UTF-8"):
        texts.from_plain([("body", b"a\xff")])


def test_texts_are_padded_on_the_right_to_a_bucket() -> None:
    ids, mask = texts.tokenise(["a good film", "bad"], TOKENIZER, (IDS, MASK))
    assert ids.array.dtype == mask.array.dtype == np.int64
    assert ids.array.shape == mask.array.shape == (2, texts.SHORTEST)
    counts = mask.array.sum(axis=1)
    assert counts[0] > counts[1] > 0
    for row, shown, count in zip(ids.array, mask.array, counts, strict=True):
        assert row[:count].all()
        assert not row[count:].any()
        assert shown.tolist() == [1] * count + [0] * (texts.SHORTEST - count)


@pytest.mark.parametrize(("length", "bucket"), [(1, 8), (8, 8), (9, 16), (16, 16), (300, 512)])
def test_buckets_are_powers_of_two(length: int, bucket: int) -> None:
    assert texts.bucket(length) == bucket


def test_a_text_is_cut_off_where_training_did() -> None:
    (ids,) = texts.tokenise(["film " * 100], TOKENIZER, (IDS,))
    assert np.count_nonzero(ids.array) == LENGTH


def test_a_model_may_take_shorter_numbers() -> None:
    short = TensorSpec(texts.IDS, Datatype.INT32, (-1, -1))
    assert texts.tokenise(["film"], TOKENIZER, (short,))[0].array.dtype == np.int32


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_of_no_words_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(InvalidArgument, match="text 1 holds no word"):
        texts.tokenise(["film", text], TOKENIZER, (IDS, MASK))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (["a" * 1_000_001], "the texts have 1000001 characters; at most 1000000 are read"),
        (["a" * 500_000, "b" * 500_001], "the texts have 1000001 characters; at most 1000000"),
        (["a"] * 4097, "4097 texts; at most 4096 are read"),
    ],
)
def test_texts_that_are_too_long_or_too_many_are_refused_before_they_are_read(
    sent: list[str], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        texts.tokenise(sent, "not even looked at", (IDS, MASK))


@pytest.mark.parametrize(
    "inputs",
    [
        (MASK,),
        (IDS, TensorSpec("image", Datatype.UINT8, (-1, 3))),
        (TensorSpec(texts.IDS, Datatype.FP32, (-1, -1)),),
        (TensorSpec(texts.IDS, Datatype.INT64, (-1,)),),
    ],
)
def test_a_model_of_other_inputs_takes_no_texts(inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(InvalidArgument, match="called input_ids and attention_mask"):
        texts.tokenise(["film"], TOKENIZER, inputs)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_numbers_of_no_token_write_nothing(dtype: "np.typing.DTypeLike") -> None:
    (ids,) = texts.tokenise(["bad film"], TOKENIZER, (IDS,))
    limits = np.iinfo(dtype)
    row = [limits.min, *ids.array[0], limits.max]
    (alone,) = texts.written(ids.array, TOKENIZER)
    assert "film" in alone
    assert texts.written(np.array([row], dtype), TOKENIZER) == [alone]


def test_a_broken_tokeniser_is_named() -> None:
    with pytest.raises(LoadFailed, match=r"tokenizer\.json cannot be read"):
        texts.tokenise(["film"], "{}", (IDS, MASK))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Unsupported, match=r"pip install 'penstock\[text\]'"):
        texts.tokenise(["film"], TOKENIZER + " ", (IDS, MASK))
