"""The built-in page against a real server: a person chats, stops, changes the adapter, and sees the load."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from lora_adapters import save_random_adapter
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from served import Served, served
from web_page import Page, chromium, needs_chromium, read_log

pytestmark = needs_chromium
KEY = "a-key-for-users"


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key and an adapter."""
    folder = tmp_path_factory.mktemp("page")
    adapter = save_random_adapter(folder / "pirate")
    arguments = ["--model", str(tiny_llama), "serve.name=tiny", "--api-key", KEY, f"--lora=pirate={adapter}"]
    with served(folder, *arguments) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as found:
        yield found


def running(server: Served) -> int:
    """Samples that the engine works on."""
    answer = httpx2.get(f"{server.url}/stats", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    return int(answer.json()["running"])


def test_a_person_chats_with_the_server(browser: webdriver.Chrome, server: Served) -> None:
    """From the key to the graphs, with nothing for the browser to complain about."""
    browser.get(server.url)
    page = Page(browser)
    page.until(lambda: page.texts("#status") == ["needs an API key"])
    read_log(browser)
    page.one("#key").send_keys(KEY, Keys.TAB)
    page.until(lambda: page.texts("#status") == ["ready"])
    page.until(lambda: page.texts("#model optgroup option") == ["tiny", "pirate"])

    page.one("#max-tokens").clear()
    page.one("#max-tokens").send_keys("20")
    page.one("#seed").send_keys("7")
    page.ask("hello 東京")
    (first,) = page.texts(".turn.assistant .text")
    assert first
    assert page.texts(".turn footer span")[0].startswith("20 tokens")

    Select(page.one("#model")).select_by_visible_text("pirate")
    page.one("#new-chat").click()
    page.ask("hello 東京")
    assert page.texts(".turn .name") == ["pirate"]
    assert page.texts(".turn.assistant .text") != [first]

    page.one("#max-tokens").clear()
    page.one("#max-tokens").send_keys("400")
    page.until(lambda: "2 requests" in page.texts("#facts")[0])
    page.say("a long story", Keys.ENTER)
    page.until(lambda: len(page.texts(".turn.assistant .text")[-1]) > 10)
    page.one("#stop").click()
    page.until(lambda: "stopped" in page.texts(".turn footer")[-1])
    page.until(lambda: running(server) == 0)
    page.until(lambda: "0 running, 0 waiting" in page.texts("#requests output")[0])
    assert read_log(browser) == []
