"""Texts of a step: stop strings, samples, ends, logprobs, and what is forgotten."""

from collections.abc import Iterable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynckit.engine.text import StopStrings
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.growing_text import GrowingText
from asynckit.serve.messages import Begin, Text, Timing, Token, Tokens
from asynckit.serve.texts import OpenTexts

HOME = "http-0"


def begin(
    texts: OpenTexts,
    id_: str = "r",
    *,
    n: int = 1,
    stop: tuple[str, ...] = (),
    skip: bool = True,
    wants_tokens: bool = False,
    home: str = HOME,
) -> None:
    texts.begin(Begin(id_, home, n, stop, skip, wants_tokens))


def token(id_: int | None, finish: str | None = None, *, request: str = "r", sample: int = 0) -> Token:
    return Token(request, sample, id_, -0.5, 3, finish)


def step(texts: OpenTexts, *tokens: Token, home: str = HOME) -> list[Text]:
    answers = texts.step(Tokens(tokens))
    return list(answers[home].texts) if answers else []


def stream(texts: OpenTexts, ids: Sequence[int], finish: str = "length") -> list[str]:
    """The pieces that tokens bring, one by one."""
    pieces = []
    for at, id_ in enumerate(ids):
        (text,) = step(texts, token(id_, finish if at == len(ids) - 1 else None))
        pieces.append(text.text)
    return pieces


def ended_by(stops: tuple[str, ...], ids: Iterable[int], tokenizer: LightTokenizer) -> list[int]:
    """The tokens up to the one with which the engine finds a stop string; all if it finds none."""
    watch, taken = StopStrings(stops, tokenizer.decode), []
    for id_ in ids:
        taken.append(id_)
        if watch.push(id_):
            break
    return taken


def first_stop(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the stop string that is complete first, were it written character by character."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


def test_a_stop_string_is_never_shown(byte_level: LightTokenizer) -> None:
    """What may begin a stop string waits; it comes out when it turns out to be none."""
    texts = OpenTexts(byte_level)
    begin(texts, stop=("STOP",))
    assert stream(texts, byte_level.encode("a STun STOP")[:-1] + byte_level.encode("P"), "stop")[-1] == ""
    begin(texts, stop=("STOP",))
    pieces = stream(texts, byte_level.encode("a ST"))
    assert "".join(pieces) == "a ST"
    assert pieces[:-1] == ["a", " ", ""]  # the end lets go of it


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text("abé🦊 ", max_size=30),
    stops=st.lists(st.text("abé🦊 ", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple),
)
def test_pieces_end_before_the_first_stop_string(
    byte_level: LightTokenizer, text: str, stops: tuple[str, ...]
) -> None:
    """Streamed as unstreamed: the whole text up to the stop string at which the engine ended it."""
    ids = ended_by(stops, byte_level.encode(text), byte_level)
    whole = byte_level.decode(ids)
    stopped = any(stop in whole for stop in stops)
    texts = OpenTexts(byte_level)
    begin(texts, stop=stops)
    if ids:
        pieces = stream(texts, ids, "stop" if stopped else "length")
        assert "".join(pieces) == first_stop(whole, stops)
        assert texts.statistics.open == 0


def test_a_stop_string_that_ended_nothing_stays(byte_level: LightTokenizer) -> None:
    """min_tokens let it pass, so an end-of-text token later does not cut it off."""
    texts = OpenTexts(byte_level)
    begin(texts, stop=("b",))
    ids = byte_level.encode("abc")
    assert "".join(stream(texts, [*ids, 0], "stop")) == "abc"


def test_abort_and_error_let_go_of_what_was_held_back(byte_level: LightTokenizer) -> None:
    """Half a character and the beginning of a stop string come out, with the reason of the end."""
    fox = byte_level.encode("🦊")
    for finish in ("abort", "error"):
        texts = OpenTexts(byte_level)
        begin(texts, stop=("xyz",))
        (held,) = step(texts, token(byte_level.encode("x")[0]))
        (half,) = step(texts, token(fox[0]))
        (end,) = step(texts, Token("r", 0, None, 0.0, 3, finish, "why"))
        assert (held.text, half.text, end.text) == ("", "", "x\ufffd")
        assert (end.finish, end.error, end.token_ids) == (finish, "why", ())


def test_bytes_that_become_no_character_come_out(byte_level: LightTokenizer) -> None:
    """A model that samples garbage forever is seen to do so."""
    texts = OpenTexts(byte_level)
    begin(texts)
    last_byte = byte_level.encode("🦊")[-1]
    shown = sum(len(step(texts, token(last_byte))[0].text) for _ in range(100))
    assert shown >= 97


def test_samples_are_kept_apart(byte_level: LightTokenizer) -> None:
    """Interleaved halves of characters meet their own other halves; the last sample tells the time."""
    clock = iter(range(1000))
    texts = OpenTexts(byte_level, clock=lambda: float(next(clock)))
    begin(texts, n=2)
    fox, bear = byte_level.encode("🦊"), byte_level.encode("🐻")
    pieces = {0: "", 1: ""}
    timing = Timing(1.0, 2.0, 3.0, 4.0)
    for at, ids in enumerate(zip(fox, bear, strict=True)):
        finish = "length" if at == len(fox) - 1 else None
        tokens = tuple(token(id_, finish, sample=sample) for sample, id_ in enumerate(ids))
        got = texts.step(Tokens(tokens, {"r": timing} if finish else {}))[HOME].texts
        for text in got:
            pieces[text.sample] += text.text
    assert pieces == {0: "🦊", 1: "🐻"}
    assert got[0].timing is None
    assert got[1].timing is not None
    assert got[1].timing.arrived == 1.0
    assert got[1].timing.detokenized == len(fox)  # one tick a step, shared by both samples
    assert texts.statistics.open == 0


def test_a_token_without_text_is_still_counted(byte_level: LightTokenizer) -> None:
    """A special token that is left out, and an id that no token has."""
    texts = OpenTexts(byte_level)
    begin(texts)
    for id_ in (0, byte_level.vocabulary + 5):
        (text,) = step(texts, token(id_))
        assert (text.text, text.token_ids, text.version) == ("", (id_,), 3)


def test_special_tokens_are_shown_where_asked(byte_level: LightTokenizer) -> None:
    """As ``tokenizer.decode(skip_special_tokens=False)`` does."""
    texts = OpenTexts(byte_level)
    begin(texts, skip=False)
    assert "".join(stream(texts, byte_level.encode("a<|end|>b"))) == "a<|end|>b"


def test_tokens_come_with_text_bytes_and_logprobs(byte_level: LightTokenizer) -> None:
    """Half characters keep their bytes; prompt scores come on the first piece, None where there is none."""
    texts = OpenTexts(byte_level)
    begin(texts, wants_tokens=True)
    first, a = byte_level.encode("🦊")[0], byte_level.encode("a")[0]
    scored = Token(
        "r", 0, first, -1.0, 0, top_logprobs=((a, -0.1),), prompt_logprobs=(None, (0, -2.0, ((a, -0.2),)))
    )
    (text,) = step(texts, scored)
    (told,) = text.tokens
    assert (told.text, told.raw, told.logprob) == ("\ufffd", "🦊".encode()[: len(told.raw)], -1.0)
    assert told.top == ((a, "a", b"a", -0.1),)
    assert text.prompt_tokens[0] is None
    assert text.prompt_tokens[1] is not None
    assert text.prompt_tokens[1].text == "<|end|>"
    assert text.prompt_tokens[1].top == ((a, "a", b"a", -0.2),)


def test_a_sample_twice_in_one_message_keeps_its_order(byte_level: LightTokenizer) -> None:
    """Its token and its abort may be reported by the same step."""
    texts = OpenTexts(byte_level)
    begin(texts, stop=("xyz",))
    a, end = step(texts, token(byte_level.encode("x")[0]), token(None, "abort"))
    assert (a.text, a.finish, end.text, end.finish) == ("", None, "x", "abort")


def test_what_has_ended_is_forgotten(byte_level: LightTokenizer) -> None:
    """Tokens of ended, refused and unknown requests and samples are dropped, and take no memory."""
    texts = OpenTexts(byte_level)
    begin(texts, n=2)
    begin(texts, "other", home="http-1")
    step(texts, token(5, "length"))
    assert step(texts, token(5), token(5, sample=7), token(5, request="nobody")) == []
    assert texts.statistics.dropped == 3
    texts.end_home(HOME)
    assert texts.statistics.open == 1
    assert step(texts, token(5, sample=1)) == []
    assert len(step(texts, token(5, request="other"), home="http-1")) == 1
    texts.end("other")
    assert texts.statistics.open == 0
    begin(texts)
    texts.end_router(0)
    assert texts.statistics.open == 0


def test_texts_go_to_their_homes(byte_level: LightTokenizer) -> None:
    """One message for each HTTP server, whatever the number of requests."""
    texts = OpenTexts(byte_level)
    for request, home in (("a", "http-0"), ("b", "http-1"), ("c", "http-0")):
        begin(texts, request, home=home)
    answers = texts.step(Tokens(tuple(token(5, request=request) for request in "abc")))
    assert {home: [text.id for text in some.texts] for home, some in answers.items()} == {
        "http-0": ["a", "c"],
        "http-1": ["b"],
    }


def test_a_long_output_costs_no_more_per_token(byte_level: LightTokenizer) -> None:
    """Windows stay short, also where characters never end."""
    for ids in (byte_level.encode("the quick brown fox") * 40, byte_level.encode("🦊")[-1:] * 700):
        text = GrowingText(byte_level, skip_special_tokens=True)
        longest = 0
        for id_ in ids:
            text.add(id_)
            text.read(byte_level.decode_windows([text.window.tokens])[0])
            longest = max(longest, len(text.window.tokens))
            context = text.window.context()
            if context:
                text.window.shorten(context, byte_level.decode_windows([context])[0])
        assert longest <= 25
