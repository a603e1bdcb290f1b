"""The built-in page in headless Chromium, as a person sees and uses it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


class Page:
    """The page as a person sees it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def one(self, selector: str) -> WebElement:
        """The first element of this selector."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements of this selector."""
        script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"
        found: list[str] = self.browser.execute_script(script, selector)
        return found

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        WebDriverWait(self.browser, 10, 0.02).until(lambda _: holds())

    def say(self, *keys: str) -> None:
        """Press keys in the message."""
        self.one("#text").send_keys(*keys)

    def ask(self, text: str) -> None:
        """Send a message and wait for the end of its answer."""
        ended = len(self.texts(".turn footer"))
        self.say(text, Keys.ENTER)
        self.until(lambda: len(self.texts(".turn footer")) == ended + 1)


def read_log(browser: webdriver.Chrome) -> list[str]:
    """What the browser has complained about since the last look."""
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A headless browser that runs while inside."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER))) as chrome:
        chrome.set_window_size(1280, 800)
        yield chrome
