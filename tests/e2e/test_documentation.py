"""What the documentation shows works as it stands, also in a browser that has no internet."""

from typing import Any, Final

import httpx
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as condition
from selenium.webdriver.support.wait import WebDriverWait

from tests.e2e.server import Server

BROWSER_SECONDS: Final = 90
ROUTES: Final = {
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/stats",
    "POST /v2/repository/index",
    "POST /v2/repository/models/{model}/load",
    "POST /v2/repository/models/{model}/unload",
    "POST /predict/{model}",
    *(
        f"GET /v2/models/{{model}}{version}{suffix}"
        for version in ("", "/versions/{version}")
        for suffix in ("", "/ready", "/config", "/passport", "/stats")
    ),
    "POST /v2/models/{model}/infer",
    "POST /v2/models/{model}/versions/{version}/infer",
}


@pytest.fixture(scope="module")
def operations(server: Server) -> dict[str, Any]:
    """The documented operations by method and path."""
    answer = httpx.get(f"{server.url}/openapi.json")
    assert answer.status_code == 200
    return {
        f"{method.upper()} {path}": operation
        for path, item in answer.json()["paths"].items()
        for method, operation in item.items()
    }


def test_every_route_is_documented(operations: dict[str, Any]) -> None:
    assert operations.keys() >= ROUTES
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name


def test_every_tag_is_described(server: Server, operations: dict[str, Any]) -> None:
    described = httpx.get(f"{server.url}/openapi.json").json()["tags"]
    used = {tag for operation in operations.values() for tag in operation["tags"]}
    assert {tag["name"] for tag in described} == used


def test_every_operation_has_a_name_of_its_own(operations: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)


def example_of(parameter: Any) -> str:
    [example] = parameter["examples"].values()
    return str(example["value"])


def test_every_example_is_answered_as_documented(
    rest: httpx.Client, operations: dict[str, Any]
) -> None:
    for name, operation in operations.items():
        method, path = name.split()
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", example_of(parameter))
        content = operation.get("requestBody", {}).get("content", {})
        assert (method == "POST") == ("application/json" in content), name
        body = content["application/json"]["example"] if content else None
        answer = rest.request(method, path, json=body)
        # This server serves what there was at its start; its clients cannot change it.
        status = 503 if "/repository/models/" in path else 200
        assert answer.status_code == status, f"{name}: {answer.text}"
        documented = operation["responses"][str(status)].get("content", {})
        if "application/json" in documented:
            check_shape(name, documented["application/json"]["example"], answer.json())
        else:
            assert bool(answer.content) == bool(documented), name


def check_shape(name: str, example: Any, answer: Any) -> None:
    """The answer has what the example promises: its keys, and values of its types."""
    if isinstance(example, dict):
        assert example.keys() <= answer.keys(), name
        for key, member in example.items():
            check_shape(f"{name}: {key}", member, answer[key])
    elif isinstance(example, list):
        assert isinstance(answer, list), name
        # Those that count what has happened are empty where nothing has.
        assert answer or not example or name.endswith("batch_stats"), name
        for member, found in zip(example[:1], answer[:1], strict=False):
            check_shape(name, member, found)
    elif isinstance(example, int | float):
        assert isinstance(answer, int | float), name
    else:
        assert type(answer) is type(example), name


def test_the_answer_to_the_documented_digit_is_what_the_documentation_shows(
    rest: httpx.Client, operations: dict[str, Any]
) -> None:
    operation = operations["POST /predict/{model}"]
    digit = operation["requestBody"]["content"]["application/json"]["example"]
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = rest.post("/predict/digits-mlp", json=digit).json()
    assert answer["predictions"][0]["label"] == shown["predictions"][0]["label"] == "0"
    assert answer["predictions"][0]["probability"] > 0.9


def test_every_refusal_that_is_documented_has_the_form_of_an_error(
    operations: dict[str, Any],
) -> None:
    for name, operation in operations.items():
        assert "422" not in operation["responses"], "this server answers 400"
        for status, response in operation["responses"].items():
            if status != "200" and response.get("content"):
                example = response["content"]["application/json"]["example"]
                assert list(example) == ["error"], f"{name}: {status}"


def test_a_prediction_can_be_made_on_the_documentation_page(
    browser: WebDriver, server: Server
) -> None:
    wait = WebDriverWait(browser, BROWSER_SECONDS)

    def clickable(place: str) -> WebElement:
        return wait.until(condition.element_to_be_clickable((By.CSS_SELECTOR, place)))

    browser.get(f"{server.url}/docs")
    operation = "[id^='operations-predict-']"
    clickable(f"{operation} .opblock-summary-control").click()
    clickable(f"{operation} .try-out__btn").click()
    clickable(f"{operation} button.execute").click()
    live = f"{operation} .live-responses-table .response"
    status = wait.until(
        condition.visibility_of_element_located((By.CSS_SELECTOR, f"{live} .response-col_status"))
    )
    assert status.text.split()[0] == "200"
    body = browser.find_element(By.CSS_SELECTOR, f"{live} .highlight-code").text
    assert '"label": "0"' in body
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    faults = [entry for entry in log if entry["level"] == "SEVERE"]
    assert faults == []
