"""The openai package's client against the server."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fake_ring import ServerThread

from asynckit.serve.messages import Generate, Refused

USER: Any = [{"role": "user", "content": "the quick"}]
TEXT = "the quick brown fox"
LOOK: Any = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


@pytest.fixture
def ask(server: ServerThread) -> Iterator[openai.OpenAI]:
    """The client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat(server: ServerThread, ask: openai.OpenAI) -> None:
    """A chat is laid out by the template and answered; tokens are counted."""
    answer = ask.chat.completions.create(model="tiny", messages=USER)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (TEXT, "stop")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    asked = server.ring.generates[-1].request
    assert server.ring.tokenizer.decode(asked.prompt_ids) == "<|user|>the quick<|end|><|assistant|>"
    assert asked.sampling.max_tokens == server.ring.facts.max_model_len - len(asked.prompt_ids)


def test_streamed_chat_is_the_unstreamed_one(ask: openai.OpenAI) -> None:
    """The pieces of a stream are the text; the last chunk counts, if asked to."""
    stream = ask.chat.completions.create(
        model="tiny", messages=USER, stream=True, n=2, stream_options={"include_usage": True}
    )
    texts, usage = {0: "", 1: ""}, None
    for chunk in stream:
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: TEXT, 1: TEXT}
    assert usage
    assert usage.completion_tokens == 8


def test_chat_logprobs(ask: openai.OpenAI) -> None:
    """Each token has its logprob, its bytes and the likeliest ones."""
    answer = ask.chat.completions.create(model="tiny", messages=USER, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content) == TEXT.encode()
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_completions_of_several_prompts(server: ServerThread, ask: openai.OpenAI) -> None:
    """Sample s of prompt p has index p * n + s, streamed or not."""
    server.ring.says = lambda request: [request.prompt_ids[0], request.prompt_ids[0]]
    prompts = ["the", "fox"]
    whole = ask.completions.create(model="tiny", prompt=prompts, n=2)
    texts = [choice.text for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    streamed = [""] * 4
    for chunk in ask.completions.create(model="tiny", prompt=prompts, n=2, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_scores_and_no_new_token(ask: openai.OpenAI, stream: bool) -> None:
    """What lm-eval asks for: the prompt's own logprobs, with nothing generated."""
    answer: Any = ask.completions.create(
        model="tiny", prompt="the quick", echo=True, max_tokens=0, logprobs=1, temperature=0, stream=stream
    )
    choice = (next(iter(answer)) if stream else answer).choices[0]
    assert choice.text == "the quick"
    assert choice.logprobs.tokens == ["the", " quick"]
    assert choice.logprobs.token_logprobs == [None, -0.25]
    assert choice.logprobs.token_logprobs[1] == max(choice.logprobs.top_logprobs[1].values())
    assert choice.logprobs.text_offset == [0, 3]
    if not stream:
        assert answer.usage.completion_tokens == 0


def test_sampling_reaches_the_engine(server: ServerThread, ask: openai.OpenAI) -> None:
    """Every parameter arrives; defaults are OpenAI's."""
    extra: dict[str, Any] = {
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "min_tokens": 2,
        "ignore_eos": True,
    }
    extra |= {"stop_token_ids": [3], "allowed_token_ids": [4, 5]}
    ask.completions.create(
        model="tiny",
        prompt=[[5, 6]],
        seed=-1,
        stop=["a", "b"],
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias={"7": -1},
        extra_body=extra,
    )
    sampling = server.ring.generates[-1].request.sampling
    assert (sampling.seed, sampling.stop, sampling.max_tokens) == (2**63 - 1, ("a", "b"), 16)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 5, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (
        0.1,
        0.2,
        1.2,
    )
    assert (sampling.logit_bias, sampling.stop_token_ids, sampling.allowed_token_ids) == (
        {"7": -1},
        (3,),
        (4, 5),
    )
    assert (sampling.min_tokens, sampling.ignore_eos) == (2, True)


def test_without_a_seed_requests_differ(server: ServerThread, ask: openai.OpenAI) -> None:
    """Two requests without a seed have different ones."""
    for _ in range(2):
        ask.completions.create(model="tiny", prompt="the")
    first, second = (each.request.sampling.seed for each in server.ring.generates[-2:])
    assert first != second


def test_json_schema(server: ServerThread, ask: openai.OpenAI) -> None:
    """A schema goes to the engine as it is; one that can't be used is refused here."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    ask.chat.completions.create(model="tiny", messages=USER, response_format=wanted)
    assert json.loads(server.ring.generates[-1].request.sampling.json_schema or "") == schema
    wanted["json_schema"]["schema"] = {"type": "nonsense"}
    with pytest.raises(openai.BadRequestError, match="json_schema can't be used"):
        ask.chat.completions.create(model="tiny", messages=USER, response_format=wanted)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_forced_tools(server: ServerThread, ask: openai.OpenAI, choice: Any, stream: bool) -> None:
    """A forced call is held to the tool's schema and comes as a call."""
    said = '[{"name": "look", "arguments": {"at": "fox"}}]' if choice == "required" else '{"at": "fox"}'
    server.ring.says = lambda _: server.ring.tokenizer.encode(said)
    answer: Any = ask.chat.completions.create(
        model="tiny", messages=USER, tools=[LOOK], tool_choice=choice, stream=stream
    )
    assert server.ring.generates[-1].request.sampling.json_schema
    if stream:
        chunks = [chunk.choices[0] for chunk in answer]
        calls = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
        name, reason = calls[0].function.name, chunks[-1].finish_reason
        arguments = "".join(call.function.arguments for call in calls)
    else:
        function = answer.choices[0].message.tool_calls[0].function
        name, arguments, reason = function.name, function.arguments, answer.choices[0].finish_reason
    assert (name, json.loads(arguments), reason) == ("look", {"at": "fox"}, "tool_calls")


def test_tools_that_the_template_does_not_know(ask: openai.OpenAI) -> None:
    """A model that can't be told about tools says so instead of never calling one."""
    with pytest.raises(openai.BadRequestError, match="no place for tools"):
        ask.chat.completions.create(model="tiny", messages=USER, tools=[LOOK])


def test_refusals_keep_their_status(server: ServerThread, ask: openai.OpenAI) -> None:
    """What the router refuses is the client's own kind of error, streamed or not."""

    def refuse(message: Any) -> Refused | None:
        if not isinstance(message, Generate):
            return None
        status, code = (404, "model_not_found") if message.request.adapter else (429, "queue_full")
        return Refused(message.request.id, message.home, status, "no", code, 3.0 if status == 429 else None)

    server.ring.refuse = refuse
    with pytest.raises(openai.RateLimitError) as caught:
        ask.completions.create(model="tiny", prompt="the", stream=True)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.code == "queue_full"
    with pytest.raises(openai.NotFoundError):
        ask.completions.create(model="other", prompt="the")


def test_a_stream_that_breaks_says_so(server: ServerThread, ask: openai.OpenAI) -> None:
    """After the first pieces an error can only be an event; the client raises it."""
    server.ring.hold = True
    with ask.completions.create(model="tiny", prompt="the", stream=True) as stream:
        assert next(stream).choices[0].text == "the"
        request = server.ring.generates[-1].request
        server.call(server.running.refuse_now(Refused(request.id, "http-0", 503, "gone", "restarting")))
        with pytest.raises(openai.APIError, match="gone"):
            next(stream)


def test_a_closed_stream_is_aborted(server: ServerThread, ask: openai.OpenAI) -> None:
    """Closing a stream frees what it holds."""
    server.ring.hold = True
    with ask.completions.create(model="tiny", prompt="the", stream=True) as stream:
        next(stream)
        id_ = server.ring.generates[-1].request.id
    server.until(lambda: id_ in server.ring.aborted)
    assert id_ not in server.ring.running


def test_models(ask: openai.OpenAI) -> None:
    """The list has the model and its adapters."""
    assert [model.id for model in ask.models.list()] == ["tiny"]
    assert ask.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        ask.models.retrieve("none")


def test_embeddings(ask: openai.OpenAI) -> None:
    """Vectors come as base64 (the client's default) and as floats, equal to each other."""
    packed = ask.embeddings.create(model="tiny", input=["the", "the quick"])
    plain = ask.embeddings.create(model="tiny", input=["the", "the quick"], encoding_format="float")
    assert [each.embedding for each in packed.data] == [each.embedding for each in plain.data]
    assert plain.data[1].embedding == [0.5, 2.0]


def test_nothing_is_aborted_that_ended(server: ServerThread, ask: openai.OpenAI) -> None:
    """A request that was answered is not aborted afterwards."""
    before = len(server.ring.aborted)
    ask.completions.create(model="tiny", prompt="the")
    assert len(server.ring.aborted) == before
