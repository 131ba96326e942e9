"""The page as a person sees it."""

from collections.abc import Callable
from typing import Any, Final

from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.e2e.server import Server

BROWSER_SECONDS: Final = 90


class Page:
    """What a person sees of it, and does with it."""

    def __init__(self, browser: WebDriver, server: Server) -> None:
        self.browser = browser
        self.url = server.url
        self._wait = WebDriverWait(browser, BROWSER_SECONDS)
        browser.get("about:blank")

    def until(self, seen: Callable[[], Any]) -> None:
        self._wait.until(lambda _: seen())

    def shows(self, name: str) -> None:
        """Wait until it does."""
        self.until(self[name].is_displayed)

    def open(self, model: str = "") -> None:
        self.browser.get(f"{self.url}/#{model}" if model else self.url)
        if model:
            self.until(lambda: self["name"].text == model and self["ask"].is_displayed())

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def fill(self, name: str, value: str) -> None:
        field = self.browser.find_element(By.CSS_SELECTOR, f'#{name}, [data-name="{name}"]')
        field.clear()
        field.send_keys(value)

    def send(self) -> str:
        """Ask, and read the answer."""
        self["send"].click()
        self.until(lambda: self["how"].is_displayed() or self["refused"].is_displayed())
        return self["result"].text

    def refusal(self) -> str:
        self.shows("refused")
        return self["refused"].text


def told(browser: WebDriver) -> list[str]:
    """The faults that the browser has seen since it was last asked."""
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]
