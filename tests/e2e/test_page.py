"""The page for people: every model can be tried in a browser that has no internet."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests import adders
from tests.e2e.page import Page, told
from tests.e2e.server import REPOSITORY, Server, penstock_server

KEY: Final = "5f1c9a0b7e3d42c8"
SEVEN: Final = REPOSITORY.parent / "docs" / "seven.png"
MODELS: Final = sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir())


@pytest.fixture
def page(browser: WebDriver, server: Server) -> Iterator[Page]:
    """The page, on which nothing may go wrong that is not told."""
    told(browser)  # what was before
    yield Page(browser, server)
    # A refused request is told of there as well.
    assert [one for one in told(browser) if "status of 4" not in one] == []


def test_it_opens_with_the_models_that_are_ready(page: Page) -> None:
    page.open()
    page.shows("ask")
    assert page["models"].text.splitlines() == MODELS
    assert page["name"].text == MODELS[0]
    page["models"].find_element(By.LINK_TEXT, "mnist-cnn").click()
    page.until(lambda: page["name"].text == "mnist-cnn")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_answers_what_the_page_offers_to_ask(page: Page, model: str) -> None:
    page.open(model)
    if page["file"].is_displayed():
        page["file"].send_keys(str(SEVEN))
    elif page["text"].is_displayed() and not page["text"].get_attribute("value"):
        page["text"].send_keys("Ein Hund, and a dog.")
    page.send()
    assert not page["refused"].is_displayed(), page["refused"].text
    assert page["answer"].is_displayed()
    assert "ms in the browser" in page["times"].text


def test_a_drawn_digit_is_read_as_soon_as_the_pen_is_lifted(page: Page) -> None:
    page.open("mnist-cnn")
    pen = ActionChains(page.browser, duration=20)
    pen.move_to_element_with_offset(page["canvas"], -50, -70).click_and_hold()
    for step in ((50, 0), (50, 0), (-15, 35), (-15, 35), (-15, 35), (-15, 40)):
        pen.move_by_offset(*step)
    pen.release().perform()
    page.shows("answer")
    assert page["result"].text.startswith("7\n")
    page["clear"].click()
    page.send()
    assert not page["result"].text.startswith("7\n")


def test_texts_tables_and_chance_are_asked_for_by_name(page: Page) -> None:
    page.open("sst2-lstm")
    page.fill("text", "charming, and funny")
    assert page.send().startswith("positive\n")
    page.open("multi30k-transformer")
    page.fill("text", "Zwei Hunde spielen im Schnee.")
    assert "dogs" in page.send()
    page.open("binary-mlp")
    page.fill("mean radius", "18")
    assert "malignant" in page.send()
    page.open("mnist-gan")
    page.fill("pictures", "4")
    page.send()
    picture = page["result"].find_element(By.TAG_NAME, "img")
    page.until(lambda: picture.get_property("naturalWidth") == 4 * 28)


def test_a_text_is_written_token_by_token_until_it_is_stopped(page: Page) -> None:
    page.open("shakespeare-gpt")
    page.fill("max_tokens", "4096")
    page["send"].click()
    page.until(lambda: len(page["result"].text) > 50)
    page["stop"].click()
    page.until(lambda: not page["stop"].is_displayed())
    assert not page["refused"].is_displayed()
    assert 50 < len(page["result"].text) < 4096


def test_what_the_server_refuses_is_told_in_its_words(page: Page) -> None:
    page.open("digits-mlp")
    page.fill("text", "[1, 2]")
    page.send()
    said = httpx.post(f"{page.url}/predict/digits-mlp", json=[1, 2])
    assert page.refusal() == f"400: {said.json()['error']}"
    page.browser.get(f"{page.url}/#nobody")
    page.until(lambda: page["name"].text == "nobody")
    assert "nobody" in page.refusal()
    assert not page["ask"].is_displayed()
    page.browser.get(f"{page.url}/#100%")
    page.until(lambda: page["name"].text == "100%" and "100%" in page["refused"].text)


def test_the_same_by_curl_says_the_same(page: Page) -> None:
    page.open("sst2-lstm")
    page.fill("text", 'it\'s "fine", $HOME and `all`')
    page.send()
    told = subprocess.run(shlex.split(page["curl"].text), capture_output=True, check=True)
    shown = page["result"].find_element(By.TAG_NAME, "pre").get_attribute("textContent")
    assert json.loads(told.stdout) == json.loads(str(shown))


def test_it_may_be_framed_by_nobody_and_runs_no_script_but_its_own(server: Server) -> None:
    policy = httpx.get(server.url).headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy


def test_who_has_a_key_says_so_there(browser: WebDriver, tmp_path: Path) -> None:
    adders.add(tmp_path / "models", "a", 1)
    keys = tmp_path / "keys"
    keys.write_text(f"frontend {KEY}\n")
    with penstock_server(f"--api-keys-file={keys}", repository=tmp_path / "models") as server:
        page = Page(browser, server)
        page.open()
        assert page.refusal().startswith("401: ")
        page.fill("key", KEY)
        page["typed"].click()
        # Its rights do not include the index, but the models themselves.
        page.until(lambda: page["refused"].text.startswith("403: "))
        page.fill("typed", "a")
        page["choose"].submit()
        page.shows("ask")
        assert '"outputs"' in page.send()
        assert all("status of 40" in one for one in told(browser))
