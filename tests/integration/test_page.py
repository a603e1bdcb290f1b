"""The built-in page in a real browser: it chats, stops, shows errors and load, and runs no foreign text."""

import itertools
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from page_server import IDLE, Answer, PageServer
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from web_page import Page, chromium, needs_chromium, read_log

from asynckit.serve.api import page

pytestmark = needs_chromium
HOSTILE = "<img src=x onerror=document.title='hit'><script>document.title='hit'</script><b id=b>bold</b>"


class Opened(Page):
    """The page of the test's own server."""

    def __init__(self, browser: webdriver.Chrome, server: PageServer) -> None:
        super().__init__(browser)
        self.server = server


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with PageServer() as running:
        yield running


@pytest.fixture
def opened(browser: webdriver.Chrome, server: PageServer) -> Iterator[Opened]:
    """A fresh page of a server with its defaults; nothing may break the content security policy."""
    server.answer, server.api_key, server.chats, server.state = Answer(), "", True, lambda: IDLE
    server.bodies.clear()
    server.urls.clear()
    server.left.clear()
    browser.get(server.url)
    browser.execute_script("sessionStorage.clear()")
    browser.refresh()
    found = Opened(browser, server)
    found.until(lambda: found.texts("#status") == ["ready"])
    read_log(browser)
    yield found
    assert [said for said in read_log(browser) if "Failed to load resource" not in said] == []


def test_a_conversation_is_streamed_and_kept(opened: Opened) -> None:
    """The second question goes with the first one and its answer, and with what the person has set."""
    opened.server.answer = Answer(("Ahoy", ", **mate**", "!"))
    opened.one("#seed").send_keys("7")
    opened.one("#system").send_keys("Be a pirate.")
    opened.say("line one", Keys.SHIFT, Keys.ENTER, Keys.NULL, "line two")
    assert opened.server.bodies == []
    opened.ask("")
    assert opened.texts(".turn.user .text") == ["line one\nline two"]
    assert opened.texts(".turn.assistant .text") == ["Ahoy, mate!"]
    assert opened.texts(".turn footer span")[0].startswith("3 tokens")
    opened.ask("again")
    first, second = opened.server.bodies
    assert first["path"] == "/v1/chat/completions"
    assert (first["stream"], first["model"], first["seed"]) == (True, "tiny", 7)
    assert (first["temperature"], first["max_tokens"]) == (0.7, 512)
    assert [(turn["role"], turn["content"]) for turn in second["messages"]] == [
        ("system", "Be a pirate."),
        ("user", "line one\nline two"),
        ("assistant", "Ahoy, **mate**!"),
        ("user", "again"),
    ]
    opened.one("#new-chat").click()
    assert opened.texts(".turn") == []
    opened.ask("new")
    assert len(opened.server.bodies[-1]["messages"]) == 2


def test_stopping_ends_the_request_and_keeps_what_came(opened: Opened) -> None:
    """The server sees the client go, and the part that came belongs to the conversation."""
    opened.server.answer = Answer(("Once", " upon"), hang=True)
    opened.say("a story", Keys.ENTER)
    opened.until(lambda: opened.texts(".turn.assistant .text") == ["Once upon"])
    opened.say("more", Keys.ENTER)
    assert len(opened.server.bodies) == 1
    opened.one("#stop").click()
    assert opened.server.left.wait(10)
    opened.until(lambda: "stopped" in "".join(opened.texts(".turn footer")))
    opened.server.answer = Answer()
    opened.ask("!")
    assert [turn["content"] for turn in opened.server.bodies[-1]["messages"]] == [
        "a story",
        "Once upon",
        "more!",
    ]


def test_what_the_model_says_is_text(opened: Opened) -> None:
    """A model can be made to say anything; none of it may become an element or run."""
    opened.server.answer = Answer((HOSTILE, "\n```html\n", HOSTILE, "\n```\n`", HOSTILE, "` **<i>x</i>**"))
    opened.ask(HOSTILE)
    opened.server.answer = Answer(error=(400, HOSTILE))
    opened.say("again", Keys.ENTER)
    opened.until(lambda: opened.texts(".problem"))
    assert opened.texts(".turn.user .text") == [HOSTILE]
    (answer,) = opened.texts(".turn.assistant .text")
    assert answer.count(HOSTILE) == 3
    assert "<i>x</i>" in answer
    assert opened.texts("pre code") == [HOSTILE]
    assert HOSTILE in opened.texts(".problem")[0]
    assert opened.texts("#log img, #log script, #log b, #log i") == []
    assert opened.browser.title == "asynckit"


def test_an_adapter_is_chosen_by_its_name(opened: Opened) -> None:
    """Adapters stand beside the model, and those that come later are found."""
    select = Select(opened.one("#model"))
    assert opened.texts("#model optgroup option") == ["tiny", "pirate"]
    select.select_by_visible_text("pirate")
    opened.ask("hello")
    assert opened.server.bodies[-1]["model"] == "pirate"
    assert opened.texts(".turn .name") == ["pirate"]
    listed = sum(url.endswith("/v1/models") for url in opened.server.urls)
    opened.server.state = lambda: replace(IDLE, adapters=())
    opened.until(lambda: sum(url.endswith("/v1/models") for url in opened.server.urls) > listed)
    opened.until(lambda: select.first_selected_option.text == "pirate")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer(error=(429, "256 requests wait already")), "256 requests wait already; try again in 3 s"),
        (Answer((), then="the engine died"), "the engine died"),
        (Answer((), drop=True), "the connection was closed"),
    ],
)
def test_an_error_is_said_and_the_question_comes_back(opened: Opened, answer: Answer, shown: str) -> None:
    """Nothing that was typed is lost, and the next try does not carry the failed one along."""
    opened.server.answer = answer
    opened.say("precious words", Keys.ENTER)
    opened.until(lambda: opened.texts(".problem"))
    assert shown in opened.texts(".problem")[0]
    opened.until(lambda: opened.one("#text").get_property("value") == "precious words")
    opened.server.answer = Answer()
    opened.ask("")
    assert [turn["content"] for turn in opened.server.bodies[-1]["messages"]] == ["precious words"]
    assert opened.texts(".problem") == []


def test_half_an_answer_stays(opened: Opened) -> None:
    """What came before the server broke down is shown, and marked."""
    opened.server.answer = Answer(("half",), then="the engine died")
    opened.ask("q")
    assert opened.texts(".turn.assistant .text") == ["half"]
    assert opened.texts(".problem") == ["Only a part came. the engine died"]


def test_the_key_is_asked_for_and_stays_in_the_tab(opened: Opened) -> None:
    """A wrong key is said; the right one is sent in a header, never in an address or in lasting storage."""
    opened.server.api_key = "sk-right"
    opened.until(lambda: opened.texts("#status") == ["needs an API key"])
    key = opened.one("#key")
    key.send_keys("sk-wrong", Keys.TAB)
    opened.say("hello", Keys.ENTER)
    opened.until(lambda: opened.texts(".problem"))
    assert "no such API key" in opened.texts(".problem")[0]
    key.clear()
    key.send_keys("sk-right", Keys.TAB)
    opened.until(lambda: opened.texts("#status") == ["ready"])
    opened.ask("")
    assert opened.texts(".turn.assistant .text") == ["Ahoy"]
    assert not any("sk-" in url for url in opened.server.urls)
    stored = "return [sessionStorage['asynckit.key'], localStorage.length, document.cookie]"
    assert opened.browser.execute_script(stored) == ["sk-right", 0, ""]


def test_a_model_without_a_template_goes_on_from_the_text(opened: Opened) -> None:
    """The server refuses the chat; the page asks for a plain completion, from then on at once."""
    opened.server.chats = False
    opened.ask("Once ")
    opened.ask(" upon")
    assert [body["path"].split("/")[2] for body in opened.server.bodies] == [
        "chat",
        "completions",
        "completions",
    ]
    assert opened.server.bodies[-1]["prompt"] == "Once Ahoy upon"
    assert opened.texts(".problem") == []


def test_the_graphs_move(opened: Opened) -> None:
    """Speed is counted from one second to the next; what runs, waits and fills the cache is shown."""
    looks = itertools.count()
    opened.server.state = lambda: replace(
        IDLE,
        running=3,
        waiting=2,
        kv_usage=0.25,
        finished=1234,
        generated_tokens=500 * next(looks),
        uptime=7300.0,
    )
    opened.until(lambda: "3 running, 2 waiting" in opened.texts("#requests output")[0])
    opened.until(lambda: float(opened.texts("#throughput output span")[0]) > 100)
    assert opened.texts("#cache output") == ["25.0 %"]
    assert opened.texts("#facts")[0].startswith("1,234 requests")
    path = opened.one("#throughput .line").get_attribute("d")
    opened.until(lambda: opened.one("#throughput .line").get_attribute("d") != path)


def test_everything_has_a_name(opened: Opened) -> None:
    """Who can't see the page hears what each field and button is."""
    script = "return [...document.querySelectorAll('button, input, select, textarea, svg')]"
    named = [each.accessible_name for each in opened.browser.execute_script(script) if each.is_displayed()]
    assert len(named) >= 10
    assert all(named)


def test_the_page_is_small_and_asks_for_nothing_else() -> None:
    """It works without the internet, and arrives at once."""
    files = [page.read(name) for name, _ in page.FILES.values()]
    assert sum(map(len, files)) < 40_000
    assert not any(
        word in b"".join(files) for word in (b"https:", b"innerHTML", b"insertAdjacentHTML", b"eval(")
    )
