"""Buckets and further labels of a model's metrics, in its configuration."""

import pytest

from serving.config import ModelConfig, Source, parse, resolve
from serving.errors import LoadFailed

FAMILY = "nv_inference_first_response_histogram_ms"
CONTROL = (
    'model_metrics {{ metric_control {{ metric_identifier {{ family: "{family}" }} '
    "histogram_options {{ buckets: {buckets} }} }} }}"
)


def config(text: str) -> ModelConfig:
    source = Source("m/config.pbtxt", text)
    proto = resolve(parse(f'backend: "identity" {text}', "m"), "m", source)
    return ModelConfig(proto, source, (), (), {}, {})


def test_buckets_are_tritons_unless_the_configuration_gives_others() -> None:
    assert config("").first_response_bounds == (100, 500, 2000, 5000)
    given = config(CONTROL.format(family=FAMILY, buckets=[1, 2.5, 4]))
    assert given.first_response_bounds == (1, 2.5, 4)


def test_tags_are_read() -> None:
    assert config('metric_tags { key: "team" value: "a" }').metric_tags == {"team": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONTROL.format(family="nv_other", buckets=[1]), "'nv_other' cannot be configured"),
        (CONTROL.format(family=FAMILY, buckets=[]), "must be ascending, got"),
        (CONTROL.format(family=FAMILY, buckets=[2, 2]), "must be ascending, got"),
        (CONTROL.format(family=FAMILY, buckets="[1, nan]"), "must be ascending, got"),
        (CONTROL.format(family=FAMILY, buckets="[1, inf]"), "must be ascending, got"),
    ],
)
def test_what_is_no_histogram_of_ours_is_refused(text: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        config(text)


@pytest.mark.parametrize("tag", ["a b", "a-b", "", "_a", "é", "a\\n"])
def test_a_tag_that_is_no_labels_name_is_refused(tag: str) -> None:
    with pytest.raises(LoadFailed, match="cannot be a label's name"):
        config(f'metric_tags {{ key: "{tag}" value: "x" }}')


@pytest.mark.parametrize("tag", ["model", "1", "A_b_"])
def test_a_tag_may_be_called_as_labels_are(tag: str) -> None:
    assert config(f'metric_tags {{ key: "{tag}" value: "x y" }}').metric_tags == {tag: "x y"}
