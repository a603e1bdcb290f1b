"""Tries grammars before the ring sees them: one that can't be used, or takes too much, ends here."""

import asyncio
from collections import OrderedDict

from asynckit.engine.config import SamplingParams
from asynckit.engine.grammar import check_grammar
from asynckit.errors import DependencyError, RequestError
from asynckit.serve.api.errors import ApiError, unavailable

MOST_TRIALS = 2  # at a time; each is a process with little time and memory
MOST_WAITING = 64
REMEMBERED = 256

Grammar = tuple[str | None, str | None]  # a JSON schema or a regex


class GrammarChecks:
    """Tries each grammar once, off the event loop."""

    def __init__(self) -> None:
        self._good: OrderedDict[Grammar, None] = OrderedDict()
        self._free = asyncio.Semaphore(MOST_TRIALS)
        self._trials: set[asyncio.Task[None]] = set()

    async def check(self, sampling: SamplingParams, field: str) -> None:
        """Refuse a grammar that can't be used; ``field`` of the request has it.

        Raises:
            ApiError: 400 for the grammar, 503 where too many wait to be tried.
        """
        if not sampling.constrained:
            return
        key = (sampling.json_schema, sampling.regex)
        if key not in self._good:
            await self._try(key, field)
            self._good[key] = None
        self._good.move_to_end(key)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)

    async def _try(self, key: Grammar, field: str) -> None:
        if len(self._trials) >= MOST_WAITING:
            raise unavailable("too many grammars wait to be tried", code="grammar_queue_full")
        trial = asyncio.create_task(self._trial(key))
        self._trials.add(trial)
        trial.add_done_callback(self._let_go)
        try:
            await asyncio.shield(trial)  # it goes on when the client leaves, and counts until it ends
        except RequestError as error:
            raise ApiError.of_mistake(error, field) from error
        except DependencyError as error:
            raise ApiError(400, f"{error.message} ({error.mend})", code="no_grammars") from error
        except OSError as error:
            message = f"a grammar can't be tried now: {error.strerror}"
            raise unavailable(message, code="grammar_queue_full") from error

    async def _trial(self, key: Grammar) -> None:
        async with self._free:
            await asyncio.to_thread(check_grammar, *key)

    def _let_go(self, trial: "asyncio.Task[None]") -> None:
        self._trials.discard(trial)
        if not trial.cancelled():
            trial.exception()  # whoever waits for it gets it; nobody may be left to
