"""Routes around text and ids: tokenizing, its reverse, embeddings."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from asynckit.engine.config import SamplingParams
from asynckit.serve.api.chats import chat_ids, check_last_message
from asynckit.serve.api.costs import check_sent
from asynckit.serve.api.errors import ApiError, JsonResponse
from asynckit.serve.api.generation import check_samples, room_for, text_ids
from asynckit.serve.api.schemas.other import DetokenizeRequest, EmbeddingsRequest, TokenizeRequest
from asynckit.serve.api.service import Service, arrival_of, note, too_long
from asynckit.serve.api.tools import ToolUse
from asynckit.serve.messages import Embed
from asynckit.serve.preparation.jobs import Decode
from asynckit.serve.streams import BACKSTOP_SECONDS, new_id


async def tokenize(service: Service, body: TokenizeRequest) -> Response:
    """Token ids of a text or chat; raises ApiError."""
    facts = service.loaded_facts()
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "give either prompt or messages", param="prompt")
    if body.prompt is not None:
        add = body.add_special_tokens is not False
        (ids,) = await text_ids(service, [body.prompt], add_special_tokens=add, param="prompt")
    else:
        check_last_message(body)
        shown = tuple(tool.model_dump(exclude_none=True) for tool in body.tools or ())
        ids = await chat_ids(service, body, ToolUse(shown or None))
    texts = None
    if body.return_token_strs:
        texts = (await service.preparers.prepare(Decode((ids,), each=True))).texts
    answer = {"count": len(ids), "max_model_len": facts.max_model_len, "tokens": ids, "token_strs": texts}
    return JsonResponse(answer)


async def detokenize(service: Service, body: DetokenizeRequest) -> Response:
    """Text of token ids; raises ApiError."""
    vocabulary = service.loaded_facts().vocabulary
    if body.tokens and max(body.tokens) >= vocabulary:
        message = f"token id {max(body.tokens)} is outside the vocabulary of {vocabulary}"
        raise ApiError(400, message, param="tokens")
    (text,) = (await service.preparers.prepare(Decode((tuple(body.tokens),)))).texts
    return JsonResponse({"prompt": text})


async def embeddings(service: Service, body: EmbeddingsRequest, http: HttpRequest) -> Response:
    """A vector for each input; raises ApiError."""
    facts = service.loaded_facts()
    if not facts.embeds:
        raise ApiError(400, "this server's model makes no embeddings", code="no_embeddings", param="model")
    if body.model != service.model:
        raise ApiError(404, f"there is no model {body.model!r} for embeddings", code="model_not_found")
    prompts = await _inputs(service, body)
    for ids in prompts:
        if not ids:
            raise ApiError(400, "an input is empty", param="input")
        if len(ids) > room_for(facts):
            raise too_long(f"an input has {len(ids)} tokens; {room_for(facts)} are accepted", "input")
        if max(ids) >= facts.vocabulary:
            raise ApiError(400, f"token id {max(ids)} is outside the vocabulary", param="input")
    check_sent(prompts, SamplingParams(), grammar_field="", prompt_field="input")
    timeout = service.settings.request_timeout
    call = Embed(new_id(), service.home, prompts, arrival_of(http), timeout)
    count = sum(map(len, prompts))
    note(http, id=call.id, prompt_tokens=count)
    vectors = (await service.call(call, timeout + BACKSTOP_SECONDS)).vectors or ()
    data = [
        {"object": "embedding", "index": place, "embedding": _encoded(vector, body.encoding_format)}
        for place, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return JsonResponse({"object": "list", "data": data, "model": body.model, "usage": usage})


async def _inputs(service: Service, body: EmbeddingsRequest) -> tuple[tuple[int, ...], ...]:
    given = body.input
    if given in ("", []):
        raise ApiError(400, "the input is empty", param="input")
    listed: Sequence[Any] = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    check_samples(service, len(listed), 1)
    if not isinstance(listed[0], str):
        return tuple(map(tuple, listed))
    add = body.add_special_tokens is not False
    return await text_ids(service, listed, add_special_tokens=add, param="input")


def _encoded(vector: Sequence[float], form: str | None) -> Sequence[float] | str:
    if form != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
