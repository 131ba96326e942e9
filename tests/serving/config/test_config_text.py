import pytest

from serving.config import Source, parse, to_text
from serving.config.source import Fault, locate, refuse
from serving.errors import LoadFailed

LAID_OUT = """\
name: "m"   # not a { bracket
input [
  { name: "ima" "ge"
    data_type: TYPE_FP32
    dims: [ 1,
      28 ] },
  { name: 'mask # not a comment'
    dims: 1
    dims: 2
    reshape < shape: [] > }
]
parameters { key: "execution_mode"
 value: { string_value: "1" } }
parameters [ { key: "b" value { string_value: "[{" } } ];
max_batch_size: 8, platform: "onnxruntime_onnx"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch: 8", "c:1:1: ModelConfig has no field 'max_batch'; did you mean"),
        ('\ninput { nam: "x" }', "c:2:9: ModelInput has no field 'nam'; did you mean 'name'?"),
        ("zzz: 8", "c:1:1: ModelConfig has no field 'zzz'; expected one of backend, "),
        (
            "input {\n data_type: TYPE_FP3\n}",
            "c:2:13: DataType has no value 'TYPE_FP3'; did you mean 'TYPE_FP32'?",
        ),
        (
            "input { data_type: BYTES }",
            "c:1:20: DataType has no value 'BYTES'; did you mean 'TYPE_STRING'?",
        ),
        (
            "instance_group { kind: CPU }",
            "c:1:24: Kind has no value 'CPU'; did you mean 'KIND_CPU'?",
        ),
        ("max_batch_size: many", "c:1:17: Couldn't parse integer: many"),
        ("max_batch_size: 99999999999", "c:1:17: Value out of range: 99999999999"),
        ("input {\n data_type: 4294967297 }", "c:2:13: Value out of range: 4294967297"),
        ("instance_group { kind: -0x80000001 }", "c:1:24: Value out of range: -2147483649"),
        (
            "version_policy { specific { versions: 8589934592 } } input { data_type: 4294967297 }",
            "c:1:73: Value out of range: 4294967297",
        ),
        ('input { name: "x"', 'c:1:15: Expected "}".'),
        ('name: "a', "c:1:7: String missing ending quote: '\"a'"),
        ('name: "a"\nname: "b"', 'should not have multiple "name" fields'),
        ('name: "\\377"', "c:1:"),
        ("\nname: 'a\\8'", "c:2:7: invalid escape sequence in 'a\\8': write a backslash as \\\\"),
        ("name: 'm'\n# \ud800", "c:2:3: not a character of Unicode text"),
        ("\ufeffname: 'm'", "c:1:1: begins with a byte order mark"),
    ],
)
def test_a_fault_in_the_text_is_shown_with_its_place_and_the_cure(text: str, message: str) -> None:
    with pytest.raises(LoadFailed) as failure:
        parse(text, "c")

    assert message in failure.value.message


def test_what_is_printed_reads_like_a_hand_written_file() -> None:
    proto = parse('input { name: "é" dims: 1 dims: 28 }', "c")

    assert to_text(proto) == 'input {\n  name: "é"\n  dims: [1, 28]\n}\n'


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("name", 1),
        ("input", 3),
        ("input[0].data_type", 4),
        ("input[0].dims", 5),
        ("input[0].dims[1]", 6),
        ("input[1].dims[1]", 9),
        ("input[1].reshape.shape", 10),
        ('parameters["execution_mode"]', 12),
        ('parameters["b"]', 14),
        ("max_batch_size", 15),
        ("platform", 15),
    ],
)
def test_a_field_is_found_on_its_line(path: str, line: int) -> None:
    parse(LAID_OUT, "c")

    assert Source("c", LAID_OUT).line(path) == line


def test_a_field_that_is_not_said_is_reported_where_it_belongs() -> None:
    source = Source("m/config.pbtxt", LAID_OUT)

    assert source.at("input[1].data_type") == "m/config.pbtxt:7"
    assert source.at("output[0].dims") == "m/config.pbtxt"
    assert Source("m").at("input[0].dims") == "m"


@pytest.mark.parametrize(
    ("path", "position"),
    [("input[0].data_type", (4, 5)), ("input[0].dims[1]", (6, 7)), ("nowhere", (0, 0))],
)
def test_a_field_is_found_in_its_column(path: str, position: tuple[int, int]) -> None:
    parse(LAID_OUT, "c")

    assert Source("c", LAID_OUT).position(path) == position


def test_a_text_without_fields_has_no_lines() -> None:
    assert locate("# nothing\n") == {}


def test_faults_are_told_together_in_the_order_of_the_text() -> None:
    faults = [Fault("max_batch_size", "two"), Fault("name", "one"), Fault("output", "nowhere")]

    with pytest.raises(LoadFailed) as failure:
        refuse(faults, Source("c", LAID_OUT))

    assert failure.value.message == "c: nowhere\nc:1: one\nc:15: two"


def test_no_fault_is_no_failure() -> None:
    refuse([], Source("c"))
