"""Constrained decoding: what comes out always matches, costs are bounded, errors are said."""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.grammar import LONGEST, Grammars
from asynckit.engine.request import Finish, Request, TokenEvent
from asynckit.errors import DependencyError, RequestError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model
from asynckit.models.tokenizer import load_tokenizer

pytest.importorskip("llguidance", reason="the extra asynckit[grammar] is not installed")

CONFIG = EngineConfig(
    dtype="float32", device="cpu", max_running=16, max_step_tokens=64, block_size=16, kv_cache_tokens=4096
)
REGEXES = [
    r"[0-9]{3}-[a-f]{2,4}",
    r"(yes|no|perhaps)",
    r"[a-z]+( [^ .]{1,9}){0,3}\.",
    r"",
    r"é{2}x?",
    r"(ab|abc|abcd)+e",
]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "boolean"},
    {"enum": ["red", "green", 3, None]},
    {
        "type": "array",
        "items": {"type": "integer", "minimum": 2, "maximum": 40},
        "minItems": 1,
        "maxItems": 3,
    },
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^[ab]{2}$"}]},
]


INTERSECTION = json.dumps(  # in llguidance 1.9 this asks for 5 GB and aborts the process
    {"allOf": [{"type": "string", "pattern": f"(a|b){{{count}}}c.*d.*e"} for count in range(1, 30)]}
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    config = ModelConfig(name=str(tiny_llama))
    return load_tokenizer(resolve_model(config), config)


@pytest.fixture
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, len(tokenizer), frozenset({0}))


@pytest.fixture(scope="module")
def engine(tiny_llama: Path, tokenizer: Any) -> Engine:
    config = ModelConfig(name=str(tiny_llama))
    engine = Engine.load(CONFIG, config, resolve_model(config))
    engine._grammars = Grammars(tokenizer, len(tokenizer), frozenset({0}))
    return engine


def run(engine: Engine, *requests: Request) -> dict[tuple[str, int], list[TokenEvent]]:
    for request in requests:
        engine.add(request)
    events = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id, event.sample_index].append(event)
    return events


def text_of(tokenizer: Any, events: list[TokenEvent]) -> str:
    tokens = [event.token_id for event in events if event.token_id is not None]
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("regex", REGEXES)
def test_complete_samples_match_the_regex(engine: Engine, tokenizer: Any, regex: str) -> None:
    """Random weights at a high temperature try everything; whatever ends by itself matches in full."""
    params = SamplingParams(regex=regex, temperature=2.0, max_tokens=60, seed=5)
    for events in run(engine, Request("r", (5, 6), params, n=16)).values():
        text = text_of(tokenizer, events)
        assert events[-1].finish in {Finish.STOP, Finish.LENGTH}, events[-1].error
        if events[-1].finish is Finish.STOP:
            assert re.fullmatch(regex, text), text


@pytest.mark.parametrize("schema", SCHEMAS)
def test_complete_samples_match_the_schema(engine: Engine, tokenizer: Any, schema: dict[str, Any]) -> None:
    """Every complete sample is JSON that an independent validator accepts."""
    params = SamplingParams(json_schema=json.dumps(schema), temperature=1.5, max_tokens=150, seed=6)
    seen = run(engine, Request("r", (5, 6), params, n=16))
    complete = [events for events in seen.values() if events[-1].finish is Finish.STOP]
    assert complete
    for events in complete:
        jsonschema.validate(json.loads(text_of(tokenizer, events)), schema)


def test_constrained_and_free_requests_share_batches(engine: Engine, tokenizer: Any) -> None:
    """A free request's tokens are those it has alone; a constrained one's too."""
    free = Request("free", (9, 8, 7), SamplingParams(max_tokens=20, seed=1, ignore_eos=True), n=3)
    bound = Request("bound", (5, 6), SamplingParams(regex="[0-9]{8}", max_tokens=20, seed=2), n=3)
    greedy = Request("greedy", (5, 6), SamplingParams(regex="(cat|dog)+x", temperature=0.0, max_tokens=30))
    alone = {**run(engine, free), **run(engine, bound), **run(engine, greedy)}
    together = run(engine, free, bound, greedy)
    assert {k: [e.token_id for e in v] for k, v in together.items()} == {
        k: [e.token_id for e in v] for k, v in alone.items()
    }
    assert all(re.fullmatch("[0-9]{8}", text_of(tokenizer, together["bound", i])) for i in range(3))


def test_the_logprob_of_a_forced_token_is_the_models(engine: Engine) -> None:
    """The grammar changes the choice, not the record: a forced token still has the model's own logprob."""
    params = SamplingParams(regex="zzzzz", temperature=0.7, max_tokens=20, top_logprobs=3)
    (events,) = run(engine, Request("r", (5, 6), params)).values()
    assert sum(event.logprob for event in events) < -5
    assert all(len(event.top_logprobs) == 3 for event in events)


def test_a_grammar_and_other_limits_that_leave_no_token_end_the_sample(
    engine: Engine, tokenizer: Any
) -> None:
    """Said as an error of that sample, never sampled around; the next request is served."""
    (letter,) = tokenizer.encode("z", add_special_tokens=False)
    params = SamplingParams(regex="[0-9]+", allowed_token_ids=(letter,))
    (events,) = run(engine, Request("r", (5,), params)).values()
    assert events[-1].finish is Finish.ERROR
    assert "leave no token to choose" in events[-1].error
    (events,) = run(engine, Request("r", (5,), SamplingParams(max_tokens=2, ignore_eos=True))).values()
    assert events[-1].finish is Finish.LENGTH


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (SamplingParams(regex="(a"), "regex can't be used: error: unclosed group"),
        (SamplingParams(regex="a(?=b)"), "look-around"),
        (SamplingParams(regex="[^\\x00-\\x{10FFFF}]"), "no text matches it"),
        (SamplingParams(regex="\ud800"), "regex can't be read"),
        (SamplingParams(regex="a" * (LONGEST + 1)), "65536 are accepted"),
        (
            SamplingParams(json_schema='{"type": "integer", "multipleOf": 1000003}'),
            "more than 1 s of CPU or 512 MiB",
        ),
        (SamplingParams(json_schema=INTERSECTION), "more than 1 s of CPU or 512 MiB"),
        (SamplingParams(json_schema='{"minimum": -1' + "0" * 400 + "}"), "can't be read"),
        (SamplingParams(json_schema="{"), "json_schema can't be read"),
        (SamplingParams(json_schema='{"const": NaN}'), "NaN is not JSON"),
        (SamplingParams(json_schema="[1]"), "must be a JSON object"),
        (SamplingParams(json_schema="false"), "admits no value"),
        (SamplingParams(json_schema='{"type": "nope"}'), "Invalid type: nope"),
        (SamplingParams(json_schema='{"not": {}, "x-guidance": {"lenient": true}}'), "Unimplemented keys"),
        (SamplingParams(json_schema='{"$ref": "http://localhost/x"}'), "does not fetch"),
        (
            SamplingParams(json_schema='{"items":' * 300 + "true" + "}" * 300),
            "nested too deeply|recursion limit",
        ),
        (SamplingParams(json_schema="[" * 30_000), "nested too deeply"),
        (SamplingParams(json_schema='{}}], "max_tokens": 1}'), "can't be read"),
    ],
)
def test_grammars_that_can_t_be_are_refused(engine: Engine, params: SamplingParams, words: str) -> None:
    """When the request is added, with the library's reason; hostile ones within their limits."""
    with pytest.raises(RequestError, match=words):
        engine.add(Request("r", (5,), params))
    assert not engine.has_work()


def test_a_compiled_grammar_is_kept(grammars: Grammars) -> None:
    """The samples of a group and later requests share one compilation but not one place."""
    params = SamplingParams(regex="ab")
    first, second = grammars.start(params), grammars.start(params)
    assert grammars._compiled.cache_info().misses == 1
    before = second.allowed(100).tolist()
    first.push(int(before.index(True)))
    assert first.allowed(100).tolist() != before
    assert second.allowed(100).tolist() == before


def test_a_missing_library_is_said(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra a constrained request is told what to install."""
    for name in [name for name in sys.modules if name.split(".")[0] == "llguidance"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    grammars = Grammars(tokenizer, len(tokenizer), frozenset({0}))
    with pytest.raises(DependencyError, match=r"asynckit\[grammar\]"):
        grammars.start(SamplingParams(regex="a"))


def test_a_model_without_end_of_text_is_refused(tokenizer: Any) -> None:
    """A complete text could not be told from an unfinished one."""
    with pytest.raises(RequestError, match="no end-of-text token"):
        Grammars(tokenizer, len(tokenizer), frozenset()).start(SamplingParams(regex="a"))


def test_matchers_go_with_their_requests(engine: Engine) -> None:
    """Neither finished, aborted nor refused requests leave a compiled grammar behind."""
    bound = SamplingParams(regex="[0-9]{3}")
    run(engine, Request("done", (5,), bound, n=2))
    assert not engine._matchers
    engine._compile_grammar(Request("refused later", (5,), bound))
    engine.add(Request("gone", (5,), bound))
    assert list(engine._matchers) == ["gone"]
    engine.abort("gone")
    assert not engine._matchers
    engine.step()
