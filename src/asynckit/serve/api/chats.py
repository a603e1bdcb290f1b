"""``POST /v1/chat/completions``."""

from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from asynckit.serve.api.chat_writer import ChatWriter
from asynckit.serve.api.costs import off_loop
from asynckit.serve.api.errors import ApiError, JsonResponse
from asynckit.serve.api.event_stream import streamed
from asynckit.serve.api.generation import (
    Asked,
    begin,
    check_samples,
    collect,
    response_room,
    room_for,
    tokens_in,
)
from asynckit.serve.api.schemas.chat import ChatRequest, template_messages
from asynckit.serve.api.schemas.sampling import grammar_field, sampling_of
from asynckit.serve.api.service import Service, too_long
from asynckit.serve.api.tools import ToolUse, tool_use
from asynckit.serve.preparation.jobs import Chat


async def chat(service: Service, body: ChatRequest, http: HttpRequest) -> Response:
    """Answer a chat.

    Raises:
        ApiError: it can't be answered.
    """
    n = body.n or 1
    _check(body)
    check_samples(service, 1, n)
    tools = tool_use(body, service.tokenizer.tool_template)
    ids = await chat_ids(service, body, tools)
    sampling = sampling_of(
        body,
        response_room(service, (ids,), body.max_completion_tokens or body.max_tokens, "messages"),
        top_logprobs=body.top_logprobs or 0,
        prompt_logprobs=body.prompt_logprobs,
        tool_schema=tools.schema,
    )
    asked = Asked(
        prompts=(ids,),
        sampling=sampling,
        n=n,
        adapter=service.adapter(body.model),
        prompt_field="messages",
        grammar_field=grammar_field(body),
        shows_ids=bool(body.return_token_ids),
        skip_special_tokens=body.skip_special_tokens is not False,
        wants_tokens=bool(body.logprobs) or body.prompt_logprobs is not None,
    )
    stream = await begin(service, http, asked)
    writer = ChatWriter(body, http, ids, tools, stream.id)
    if not body.stream:
        with stream:
            samples = await collect(stream, n)
            return await off_loop(tokens_in(samples), lambda: JsonResponse(writer.answer(samples)))
    return await streamed(stream, writer.events, writer.end)


def _check(body: ChatRequest) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs=true", param="top_logprobs")
    if body.stream_options and not body.stream:
        raise ApiError(400, "stream_options needs stream", param="stream_options")
    if body.max_tokens == 0:
        raise ApiError(400, "max_tokens must be at least 1", param="max_tokens")
    check_last_message(body)


def check_last_message(body: Any) -> None:
    """Refuse to go on with a message and begin another one at once."""
    if body.continue_final_message and body.add_generation_prompt:
        message = "continue_final_message and add_generation_prompt exclude each other"
        raise ApiError(400, message, param="continue_final_message")


async def chat_ids(service: Service, body: Any, tools: ToolUse) -> tuple[int, ...]:
    """Token ids of a chat.

    Args:
        service: has the template.
        body: of a chat or of ``/tokenize``.
        tools: that the model is told of.

    Raises:
        ApiError: the model has no template, or it can't lay out this chat.
    """
    if not service.tokenizer.chat_template:
        message = "this model has no chat template: use /v1/completions"
        raise ApiError(400, message, param="messages", code="no_chat_template")
    messages = template_messages(body.messages)
    longest = room_for(service.loaded_facts()) * service.tokenizer.longest_token
    if sum(len(message.get("content", "")) for message in messages) > longest:
        raise too_long("the messages are too long for this model", "messages")
    going_on = bool(body.continue_final_message)
    job = Chat(
        tuple(messages),
        tools.shown,
        add_generation_prompt=not going_on and body.add_generation_prompt is not False,
        continue_final_message=going_on,
        arguments=body.chat_template_kwargs or {},
    )
    (ids,) = (await service.preparers.prepare(job)).ids
    if not ids:
        raise ApiError(400, "the chat template makes no prompt of these messages", param="messages")
    return ids
