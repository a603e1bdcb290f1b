"""Writes the answer to a chat, whole or in chunks, with the tool calls that are in it."""

import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as HttpRequest

from asynckit.serve.api.event_stream import DONE, Chunks
from asynckit.serve.api.generation import Sample, texts_of, usage_of
from asynckit.serve.api.logprobs import chat_logprobs, prompt_logprobs
from asynckit.serve.api.schemas.chat import ChatRequest
from asynckit.serve.api.service import note
from asynckit.serve.api.tool_calls import Argued, Called, Found, Said, ToolCalls
from asynckit.serve.api.tools import ToolUse
from asynckit.serve.messages import Text
from asynckit.serve.streams import Piece, new_id


@dataclass
class _Progress:
    """How far the stream of one choice has come."""

    reader: ToolCalls | None
    begun: bool = False


class ChatWriter:
    """Writes the answer to one request.

    Args:
        body: the request.
        http: its line in the access log counts the tokens.
        prompt_ids: token ids of the chat.
        tools: that may be called.
        stream_id: by which the access log and the trace know it.
    """

    def __init__(
        self,
        body: ChatRequest,
        http: HttpRequest,
        prompt_ids: tuple[int, ...],
        tools: ToolUse,
        stream_id: str,
    ) -> None:
        self._body, self._http, self._prompt_ids, self._tools = body, http, prompt_ids, tools
        self._id, self._created = f"chatcmpl-{stream_id}", int(time.time())
        options = body.stream_options
        self._usage = bool(options and options.include_usage)
        self._chunks = Chunks(self._id, "chat.completion.chunk", self._created, body.model, usage=self._usage)
        self._progress: dict[int, _Progress] = {}
        self._completion_tokens = 0
        self._ids, self._logprobs = bool(body.return_token_ids), bool(body.logprobs)

    def answer(self, samples: list[Sample]) -> dict[str, Any]:
        """The whole answer."""
        self._completion_tokens = sum(len(sample.token_ids) for sample in samples)
        answer = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._body.model,
            "choices": [self._choice(index, sample) for index, sample in enumerate(samples)],
            "usage": self._count(),
        }
        if self._ids:
            answer["prompt_token_ids"] = self._prompt_ids
        if self._body.prompt_logprobs is not None:
            answer["prompt_logprobs"] = prompt_logprobs(samples[0].prompt_tokens)
        return answer

    def _choice(self, index: int, sample: Sample) -> dict[str, Any]:
        message = read_message("".join(sample.text), self._tools.reader())
        called = "tool_calls" in message
        choice = {
            "index": index,
            "message": message,
            "finish_reason": _reason(sample.finish, called=called),
            "logprobs": {"content": chat_logprobs(sample.tokens)} if self._logprobs else None,
        }
        if self._ids:
            choice["token_ids"] = sample.token_ids
        return choice

    def _count(self) -> dict[str, int]:
        note(self._http, completion_tokens=self._completion_tokens)
        return usage_of(len(self._prompt_ids), self._completion_tokens)

    def events(self, pieces: list[Piece]) -> bytes:
        """The events that pieces make, in one."""
        events: list[bytes] = []
        for text in texts_of(pieces):
            self._completion_tokens += len(text.token_ids)
            progress = self._progress.get(text.sample)
            if progress is None:
                progress = self._progress[text.sample] = _Progress(self._tools.reader())
            if not progress.begun:
                progress.begun = True
                events.append(self._first(text))
            events += self._next(text, progress)
        return b"".join(events)

    def _first(self, text: Text) -> bytes:
        choice: dict[str, Any] = {
            "index": text.sample,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        if self._ids:
            choice["prompt_token_ids"] = self._prompt_ids
        if self._body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(text.prompt_tokens)
        return self._chunks.chunk(choice)

    def _next(self, text: Text, progress: _Progress) -> list[bytes]:
        deltas, called = self._deltas(text, progress)
        if not deltas and (text.finish or (text.token_ids and (self._ids or self._logprobs))):
            deltas = [{}]
        events = []
        for place, delta in enumerate(deltas):
            last = place == len(deltas) - 1
            choice: dict[str, Any] = {
                "index": text.sample,
                "delta": delta,
                "logprobs": {"content": chat_logprobs(text.tokens)} if self._logprobs and last else None,
                "finish_reason": _reason(text.finish, called=called) if text.finish and last else None,
            }
            if self._ids:
                choice["token_ids"] = text.token_ids if last else ()
            events.append(self._chunks.chunk(choice))
        return events

    def _deltas(self, text: Text, progress: _Progress) -> tuple[list[dict[str, Any]], bool]:
        """What a piece adds to the message, and whether a tool has been called."""
        if progress.reader is None:
            return ([{"content": text.text}] if text.text else []), False
        found = progress.reader.push(text.text)
        if text.finish:
            found += progress.reader.finish()
        return [_delta(each) for each in found], bool(progress.reader.count)

    def end(self) -> bytes:
        """The last events."""
        usage = self._count()
        return self._chunks.usage(usage) + DONE if self._usage else DONE


def _reason(finish: str, *, called: bool) -> str:
    return "tool_calls" if called and finish == "stop" else finish


def _delta(found: Found) -> dict[str, Any]:
    if isinstance(found, Said):
        return {"content": found.text}
    if isinstance(found, Called):
        function = {"name": found.name, "arguments": ""}
        return {
            "tool_calls": [
                {"index": found.index, "id": new_call_id(), "type": "function", "function": function}
            ]
        }
    return {"tool_calls": [{"index": found.index, "function": {"arguments": found.text}}]}


def new_call_id() -> str:
    """The id of a tool call."""
    return f"call_{new_id()}"


@dataclass
class _Function:
    name: str
    arguments: list[str] = field(default_factory=list)


def read_message(text: str, reader: ToolCalls | None) -> dict[str, Any]:
    """An answer's message: its text, and the tool calls that were in it."""
    if reader is None:
        return {"role": "assistant", "content": text}
    said: list[str] = []
    calls: list[_Function] = []
    for each in (*reader.push(text), *reader.finish()):
        if isinstance(each, Said):
            said.append(each.text)
        elif isinstance(each, Called):
            calls.append(_Function(each.name))
        elif isinstance(each, Argued):
            calls[each.index].arguments.append(each.text)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said)}
    if calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {
                "id": new_call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in calls
        ]
    return message
