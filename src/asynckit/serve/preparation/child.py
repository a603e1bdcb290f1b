"""The process that lays out chats and tokenizes; its standard input has the jobs."""

import json
import os
import secrets
import sys
from typing import Any, BinaryIO

import msgspec

from asynckit.errors import AsynckitError
from asynckit.models.light_tokenizer import keep_torch_out
from asynckit.parent import die_with_parent
from asynckit.serve.preparation.jobs import (
    LENGTH_BYTES,
    Chat,
    Decode,
    Encode,
    Job,
    Load,
    Loaded,
    Outcome,
    Prepared,
    Wrong,
    frame,
)
from asynckit.serve.preparation.literal import Marks
from asynckit.serve.preparation.prompt_tokenizer import PromptTokenizer

RESERVED = frozenset(  # arguments of transformers' apply_chat_template, which no client may set
    [
        "self",
        "conversation",
        "conversations",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "kwargs",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
        "add_special_tokens",
        "load_audio_from_video",
    ]
)


def main() -> None:
    """Answer jobs until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not get among the frames
    jobs = msgspec.msgpack.Decoder(Job)
    jobs_in = sys.stdin.buffer
    load = jobs.decode(_read(jobs_in))
    assert isinstance(load, Load)
    try:
        keep_torch_out(load.model)
        tokenizer = PromptTokenizer.load(load.model)
    except AsynckitError as error:
        _write(answers, Wrong(f"{error.where}: {error.message}", error.mend))
        return
    if tokenizer.template(tools=False):
        _import_what_chats_need()
    _write(answers, loaded(tokenizer))
    while content := _read(jobs_in):
        _write(answers, outcome(tokenizer, jobs.decode(content)))


def _import_what_chats_need() -> None:
    """So that the first chat does not wait for it; the template itself may never end, and is not tried."""
    import transformers.utils.chat_template_utils  # noqa: F401


def _read(pipe: BinaryIO) -> bytes:
    head = pipe.read(LENGTH_BYTES)
    return pipe.read(int.from_bytes(head, "big")) if len(head) == LENGTH_BYTES else b""


def _write(pipe: BinaryIO, answer: Outcome) -> None:
    pipe.write(frame(answer))
    pipe.flush()


def loaded(tokenizer: PromptTokenizer) -> Loaded:
    """What the HTTP server has to know of a tokenizer."""
    return Loaded(
        chat_template=tokenizer.template(tools=False),
        tool_template=tokenizer.template(tools=True),
        longest_token=tokenizer.longest_token,
    )


def outcome(tokenizer: PromptTokenizer, job: Job) -> Outcome:
    """Do a job."""
    if isinstance(job, Encode):
        ids = (tokenizer.light.encode(text, job.add_special_tokens) for text in job.texts)
        return Prepared(ids=tuple(map(tuple, ids)))
    if isinstance(job, Decode) and job.each:
        return Prepared(texts=tuple(tokenizer.light.token_text(id_) for ids in job.ids for id_ in ids))
    if isinstance(job, Decode):
        return Prepared(texts=tuple(tokenizer.light.decode_batch(job.ids, job.skip_special_tokens)))
    assert isinstance(job, Chat)
    return chat_ids(tokenizer, job)


def chat_ids(tokenizer: PromptTokenizer, job: Chat) -> Outcome:
    """Lay a chat out and encode it."""
    reserved = [name for name in job.arguments if name in RESERVED or name.endswith("_token")]
    if reserved:
        return Wrong(f"chat_template_kwargs: {reserved[0]!r} can't be set")
    marks = Marks(tokenizer.specials, secrets.token_hex(8))
    try:
        rendered = tokenizer.light.render_chat(
            [_with_arguments({**marks.put(message), "role": message["role"]}) for message in job.messages],
            marks.put(job.tools),
            add_generation_prompt=job.add_generation_prompt,
            continue_final_message=job.continue_final_message,
            **marks.put(job.arguments),
        )
    except Exception as error:  # noqa: BLE001 - a template may raise anything, and says it of this chat
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return Wrong(f"the model's chat template can't lay out this chat: {marks.take(reason)}")
    if not marks.used:
        return Prepared(ids=(tuple(tokenizer.light.encode(rendered, add_special_tokens=False)),))
    return Prepared(ids=(tuple(_pieces_ids(tokenizer, marks, rendered)),))


def _pieces_ids(tokenizer: PromptTokenizer, marks: Marks, rendered: str) -> list[int]:
    ids: list[int] = []
    for piece in marks.pieces(rendered):
        ids += [piece] if isinstance(piece, int) else tokenizer.encode_literally(piece)
    return ids


def _with_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Calls with their arguments as objects, which is what templates expect; OpenAI's have them as text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _arguments(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _arguments(text: str) -> dict[str, Any]:
    arguments = json.loads(text) if text.strip() else {}
    if not isinstance(arguments, dict):
        raise TypeError("the arguments of a tool call must be a JSON object")
    return arguments


if __name__ == "__main__":
    die_with_parent()
    main()
