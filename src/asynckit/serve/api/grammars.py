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


class GrammarChecks:
    """Tries each grammar once, off the event loop."""

    def __init__(self) -> None:
        self._good: OrderedDict[tuple[str | None, str | None], None] = OrderedDict()
        self._free = asyncio.Semaphore(MOST_TRIALS)
        self._waiting = 0

    async def check(self, sampling: SamplingParams) -> None:
        """Refuse a grammar that can't be used.

        Raises:
            ApiError: 400 for the grammar, 503 where too many wait to be tried.
        """
        if not sampling.constrained:
            return
        key = (sampling.json_schema, sampling.regex)
        if key not in self._good:
            await self._try(key)
            self._good[key] = None
        self._good.move_to_end(key)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)

    async def _try(self, key: tuple[str | None, str | None]) -> None:
        if self._waiting >= MOST_WAITING:
            raise unavailable("too many grammars wait to be tried", code="grammar_queue_full")
        self._waiting += 1
        try:
            async with self._free:
                await asyncio.to_thread(check_grammar, *key)
        except RequestError as error:
            raise ApiError.of_mistake(error, "response_format") from error
        except DependencyError as error:
            raise ApiError(400, f"{error.message} ({error.mend})", code="no_grammars") from error
        finally:
            self._waiting -= 1
