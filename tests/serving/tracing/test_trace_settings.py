"""What the trace settings may be, in the protocol's documents and on the command line."""

from typing import Any

import pytest

from serving.errors import InvalidArgument, ServingError, Unsupported
from serving.tracing.config import read
from serving.tracing.settings import TraceSettings, parse


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trace_level": ["TIMESTAMPS"]}, {"levels": ("TIMESTAMPS",)}),
        ({"trace_level": ["TENSORS", "TIMESTAMPS"]}, {"levels": ("TIMESTAMPS", "TENSORS")}),
        ({"trace_level": ["MIN"]}, {"levels": ("TIMESTAMPS",)}),
        ({"trace_level": ["MAX", "TIMESTAMPS"]}, {"levels": ("TIMESTAMPS",)}),
        ({"trace_level": ["OFF"]}, {"levels": ()}),
        ({"trace_level": []}, {"levels": ()}),
        ({"trace_rate": "0"}, {"rate": 0}),
        ({"trace_rate": "4294967295"}, {"rate": 2**32 - 1}),
        ({"trace_count": "-1"}, {"count": -1}),
        ({"trace_count": "5", "log_frequency": "2"}, {"count": 5, "log_frequency": 2}),
        ({"trace_level": None, "trace_rate": None}, {"levels": None, "rate": None}),
    ],
)
def test_settings_are_read_from_texts(changes: Any, expected: dict[str, Any]) -> None:
    assert parse(changes) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["bad"]}, "trace_level: expected OFF, TIMESTAMPS or TENSORS, got 'bad'"),
        ({"trace_level": "TIMESTAMPS"}, "trace_level: expected a list, got 'TIMESTAMPS'"),
        ({"trace_rate": "x"}, "Unable to parse 'trace_rate', got: x"),
        ({"trace_rate": ""}, "Unable to parse 'trace_rate', got: "),
        ({"trace_rate": "1.5"}, "Unable to parse 'trace_rate', got: 1.5"),
        ({"trace_rate": "-1"}, "Unable to parse 'trace_rate', value is out of range"),
        ({"trace_rate": "4294967296"}, "Unable to parse 'trace_rate', value is out of range"),
        ({"trace_rate": "9" * 5000}, "Unable to parse 'trace_rate', value is out of range"),
        ({"trace_rate": ["1"]}, "trace_rate: expected an integer in a string"),
        ({"trace_count": "-2"}, "Unable to parse 'trace_count', value is out of range"),
        ({"log_frequency": "often"}, "Unable to parse 'log_frequency', got: often"),
        ({"trace_mode": "triton"}, "trace_mode: no trace setting that can change; expected trace_"),
        ({"colour": "red"}, "colour: no trace setting that can change"),
    ],
)
def test_what_cannot_be_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse(changes)
    assert raised.value.message.startswith(message)


def test_the_file_is_not_the_clients_to_choose() -> None:
    with pytest.raises(Unsupported, match="trace file location can not be updated"):
        parse({"trace_file": "/tmp/other"})


def test_the_settings_are_texts_again() -> None:
    assert TraceSettings().document() == {
        "trace_level": ("OFF",),
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
    }
    assert TraceSettings(("TENSORS",)).document()["trace_level"] == ("TENSORS",)


def test_the_command_line_is_tritons() -> None:
    config = read(
        [
            "triton,file=/tmp/trace.json",
            "triton,log-frequency=50",
            "level=TIMESTAMPS",
            "level=TENSORS",
            "rate=100",
            "count=7",
        ]
    )
    assert (config.mode, config.file) == ("triton", "/tmp/trace.json")
    assert config.settings == TraceSettings(("TIMESTAMPS", "TENSORS"), 100, 7, 50)


def test_the_command_line_sets_up_opentelemetry() -> None:
    config = read(
        [
            "mode=opentelemetry",
            "opentelemetry,url=http://collector:4318/v1/traces",
            "opentelemetry,resource=service.name=a=b",
            "opentelemetry,resource=zone=1",
            "opentelemetry,bsp_schedule_delay=100",
            "level=TIMESTAMPS",
        ]
    )
    assert (config.mode, config.url) == ("opentelemetry", "http://collector:4318/v1/traces")
    assert config.resource == {"service.name": "a=b", "zone": "1"}
    assert config.batching == {
        "bsp_max_queue_size": 2048,
        "bsp_schedule_delay": 100,
        "bsp_max_export_batch_size": 512,
    }


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("rate", r"expected \[MODE,\]SETTING=VALUE"),
        ("rate=x", "Unable to parse 'trace_rate', got: x"),
        ("speed=1", "no such setting"),
        ("triton,speed=1", "no such setting"),
        ("jaeger,url=x", "no such setting"),
        ("mode=jaeger", "expected triton or opentelemetry"),
        ("level=SOME", "trace_level: expected OFF, TIMESTAMPS or TENSORS, got 'SOME'"),
        ("opentelemetry,bsp_max_queue_size=many", "expected a whole number above 0"),
        ("opentelemetry,bsp_schedule_delay=0", "expected a whole number above 0"),
        ("opentelemetry,bsp_max_export_batch=1", "no such setting"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(option: str, why: str) -> None:
    with pytest.raises(ServingError, match=f"^--trace-config={option}: {why}"):
        read([option])


def test_a_level_without_a_place_for_traces_is_refused() -> None:
    with pytest.raises(ServingError, match="a level needs triton,file=PATH"):
        read(["level=TIMESTAMPS"])
    assert read(["level=OFF"]).settings.levels == ()
