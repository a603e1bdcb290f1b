"""What a server is, found out by asking it: its model, and by four short completions what its logprobs mean.

All probes are greedy or cut down to the likeliest token, so they repeat one token in one place. What its
logprob does when the temperature or a bias changes shows which of them the server has applied before.
"""

from dataclasses import dataclass, replace
from typing import Any

from asynckit.engine.completion import Completion
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import Request
from asynckit.errors import DependencyError, RequestError
from asynckit.rollout.engines.openai_client import Client, Unavailable
from asynckit.rollout.engines.openai_wire import (
    WORKING_SERVERS,
    BrokenOff,
    LogprobsAfter,
    ServedModel,
    body_of,
    completion_of,
)

_TOKENS = 8
_SAME = 0.1  # what rounding may move a logprob by
_TOO_LIKELY = -0.3  # a likelier token's logprob hardly moves when its logit is raised
_CERTAIN = -0.01  # the only token left has logprob 0
_TELLING = -0.5  # likelier than all others together, yet far from certain
_HOT = 2.0  # the most that vLLM allows
_BIAS = 3.0
# Keeps the likeliest token only. top_k=1 would too, but makes SGLang leave the temperature out.
_NARROW = 1e-6


@dataclass(frozen=True)
class Probe:
    """Asks servers what they are.

    Attributes:
        client: connections to them.
        model: the name to ask for; None takes the only one.
        tokenizer: turns prompts into ids in this run.
    """

    client: Client
    model: str | None
    tokenizer: Any

    async def ask(self, url: str) -> ServedModel:
        """What the server at ``url`` serves.

        Raises:
            Unavailable: it gives no answer now.
            DependencyError: it has no such model, no ids or no logprobs, or another tokenizer.
        """
        card = model_card(await self.client.get(f"{url}/v1/models"), self.model, url)
        limit = card.get("max_model_len")
        unknown = ServedModel(
            card["id"], limit if type(limit) is int else None, LogprobsAfter(True, True, True)
        )
        prompt = self._prompt()
        greedy = SamplingParams(temperature=0.0, ignore_eos=True)

        async def likeliest(ids: tuple[int, ...], sampling: SamplingParams) -> Completion:
            return await self._complete(url, unknown, ids, sampling)

        path = await likeliest(prompt, replace(greedy, max_tokens=_TOKENS))
        place = min(range(_TOKENS), key=lambda each: abs(path.logprobs[each] - _TELLING))
        here = prompt + tuple(path.token_ids[:place])
        one = replace(greedy, max_tokens=1)
        token = path.token_ids[place]
        plain = await likeliest(here, one)
        hot = await likeliest(here, replace(one, temperature=_HOT, top_p=_NARROW))
        raised = await likeliest(here, replace(one, logit_bias={str(token): _BIAS}))
        same = plain.token_ids == hot.token_ids == raised.token_ids
        after = meaning(plain.logprobs[0], hot.logprobs[0], raised.logprobs[0], same=same)
        return replace(unknown, logprobs_after=after)

    async def try_out(self, url: str, served: ServedModel, sampling: SamplingParams) -> None:
        """Have one token sampled as the run's are to be.

        Raises:
            Unavailable: the server gives no answer now.
            RequestError: it refuses these parameters.
            DependencyError: it answers in a way that can't be used.
        """
        short = replace(sampling, max_tokens=1, min_tokens=min(sampling.min_tokens, 1))
        body = body_of(Request("probe", self._prompt(), short), 0, served)
        await self.client.post(f"{url}/v1/completions", body)

    def _prompt(self) -> tuple[int, ...]:
        return tuple(self.tokenizer("Once upon a time")["input_ids"])

    async def _complete(
        self, url: str, served: ServedModel, prompt: tuple[int, ...], sampling: SamplingParams
    ) -> Completion:
        try:
            body = body_of(Request("probe", prompt, sampling), 0, served)
            answer = await self.client.post(f"{url}/v1/completions", body)
            completion = completion_of(answer, body, version=0, end=0.0)
        except BrokenOff as error:
            raise Unavailable(str(error), taken=True) from error
        except RequestError as error:  # it can't be wrong, so the server doesn't know what is in it
            raise DependencyError(error.message, where=url, mend=WORKING_SERVERS) from error
        except DependencyError as error:
            raise DependencyError(error.message, where=url, mend=error.mend) from error
        if len(completion.token_ids) != body["max_tokens"]:
            raise DependencyError(
                f"the server stopped after {len(completion.token_ids)} of {body['max_tokens']} tokens that "
                "ignore_eos was to get from it",
                where=url,
            )
        self._compare_text(url, completion.token_ids, answer["choices"][0].get("text"))
        return completion

    def _compare_text(self, url: str, ids: list[int], text: object) -> None:
        """Raise where the server's tokenizer makes other text of the ids than ours."""
        ours = _letters(self.tokenizer.decode(ids, skip_special_tokens=True))
        if isinstance(text, str) and not ours.startswith(_letters(text)):
            raise DependencyError(
                f"the server has another tokenizer than --model: {ids} is {text!r} there, {ours!r} here",
                where=url,
                mend="name the server's model, or its tokenizer, with --model",
            )


def _letters(text: str) -> str:
    """What two ways to decode agree in: they may differ in spaces at the start and characters cut in two."""
    return "".join(text.replace("\N{REPLACEMENT CHARACTER}", "").split())


def model_card(listing: Any, wanted: str | None, url: str) -> dict[str, Any]:
    """The entry of the wanted model, or of the only one, in the answer of ``GET /v1/models``.

    Raises:
        DependencyError: there is none, or more than one to choose from.
    """
    entries = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        raise DependencyError(
            "GET /v1/models gives no list of models", where=url, mend="check openai.base_urls"
        )
    cards = {
        card["id"]: card for card in entries if isinstance(card, dict) and isinstance(card.get("id"), str)
    }
    if wanted is None and len(cards) == 1:
        return next(iter(cards.values()))
    if wanted in cards:
        return cards[wanted]
    found = f"it has {', '.join(cards) or 'none'}"
    problem = f"the server has no model {wanted!r}; {found}" if wanted else f"which of its models? {found}"
    raise DependencyError(problem, where=url, mend="name one with openai.model")


def meaning(plain: float, hot: float, raised: float, *, same: bool) -> LogprobsAfter:
    """What logprobs of one token mean, from its greedy one, a hot one without all others, and a biased one.

    Where the answer isn't clear, the one that allows less is taken.

    Args:
        plain: greedy.
        hot: at temperature 2, all other tokens cut off.
        raised: greedy with a bias of 3 on the token.
        same: whether all three are of the same token.
    """
    return LogprobsAfter(
        temperature=same and abs(hot - plain) > _SAME,
        adjustments=not same or plain > _TOO_LIKELY or abs(raised - plain) > _SAME,
        cuts=not same or plain > -_SAME or hot > _CERTAIN,
    )
