"""What to send instead of a message that no frame can take."""

import msgspec

from asynckit.errors import WorkFailed
from asynckit.serve.messages import Answered, Refused, Texts, ToDetokenizer, ToHttp, Tokens

TOO_LARGE = "the answer is too large to be sent: ask for fewer prompts, samples or logprobs"


def smaller_for_detokenizer(message: ToDetokenizer) -> tuple[ToDetokenizer, ...]:
    """Several messages that say the same, or one that ends the call with an error.

    Raises:
        WorkFailed: it is a single token; a worker never sends one that is so large.
    """
    if isinstance(message, Tokens) and len(message.tokens) > 1:
        half = len(message.tokens) // 2
        parts = message.tokens[:half], message.tokens[half:]
        return tuple(msgspec.structs.replace(message, tokens=part) for part in parts)
    if isinstance(message, Answered):
        return (_refused(message.id, message.home),)
    raise WorkFailed(f"a {type(message).__name__} is too large to be sent", where="serve")


def smaller_for_http(message: ToHttp, home: str) -> tuple[ToHttp, ...]:
    """Several messages that say the same, or one that ends the request or call with an error."""
    if isinstance(message, Texts) and len(message.texts) > 1:
        half = len(message.texts) // 2
        return Texts(message.texts[:half]), Texts(message.texts[half:])
    id_ = message.texts[0].id if isinstance(message, Texts) else message.id
    return (_refused(id_, home),)


def _refused(id_: str, home: str) -> Refused:
    return Refused(id_, home, 400, TOO_LARGE, "too_large")
