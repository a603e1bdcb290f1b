"""Generates at OpenAI-compatible servers: many requests at a time, spread over servers that may come and go.

Each sample is a request of its own to the server with the fewest under way. A server that fails is set aside.
A task of its own then asks it again what it is, at growing distances, until it may get requests again; so
requests go only to servers that have answered since they last failed. What the failed server was at goes to
another one, or waits for one.

Everything ends: an exchange after ``openai.timeout``; a sample when it has been broken off more often than
``openai.retries`` allows; all waiting when there was no server to send to for ``openai.unreachable_timeout``.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from asynckit.engine.clock import Clock, RealClock
from asynckit.engine.completion import Completion
from asynckit.engine.config import SamplingParams
from asynckit.engine.request import OnUpdate, Request
from asynckit.engine.validate import check_request, check_types
from asynckit.errors import AsynckitError, DependencyError, RequestError
from asynckit.rollout.engines.openai_client import Client, Unavailable
from asynckit.rollout.engines.openai_probe import Probe
from asynckit.rollout.engines.openai_servers import Server, all_away_for, least_busy, pause, server_urls
from asynckit.rollout.engines.openai_wire import BrokenOff, body_of, check_sampling, completion_of
from asynckit.rollout.engines.samples import Samples, all_of, cancel
from asynckit.rollout.openai_config import OpenAIConfig

log = logging.getLogger(__name__)


class OpenAIGenerator:
    """A ``Generator`` whose engines are servers. Made by :meth:`open`.

    Priorities have no effect: the servers decide.
    """

    def __init__(self, config: OpenAIConfig, sampling: SamplingParams, tokenizer: Any) -> None:
        self.clock: Clock = RealClock()
        self.sampled_tokens = 0
        self.prefilled_tokens = 0
        self._config = config
        self._sampling = sampling
        self._vocabulary = 1 + max(tokenizer.get_vocab().values())
        self._servers = [Server(url) for url in server_urls(config)]
        self._client = Client(config)
        self._probe = Probe(self._client, config.model, tokenizer)
        self._places = asyncio.Semaphore(config.max_connections)
        self._samples = Samples(self.clock)
        self._returns: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        self._changed = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - spreads retries in time

    @property
    def busy_seconds(self) -> float:
        """Seconds in which any request was under way."""
        return self._samples.busy_seconds

    @classmethod
    async def open(cls, config: OpenAIConfig, sampling: SamplingParams, tokenizer: Any) -> Self:
        """Ask every server what it is, and whether it can do what the run's ``sampling`` needs.

        A server that is starting (HTTP 503) is waited for; one that can't be connected to is not.

        Raises:
            ConfigError: the settings name no servers.
            RequestError: a server can't sample like this, or its logprobs would mean something else.
            DependencyError: a server doesn't answer, or lacks the model, token ids or logprobs.
        """
        generator = cls(config, sampling, tokenizer)
        try:
            await all_of(map(generator._admit_patiently, generator._servers), generator._returns)
        except BaseException:
            await generator.close()
            raise
        return generator

    async def generate(self, request: Request) -> list[Completion]:
        """Have every sample of a request generated; it carries the version of the moment when it was sent.

        Cancelling the caller closes the connections, at which servers stop generating.

        Raises:
            RequestError: the request is refused, or breaks off wherever it is sent while others go well.
            DependencyError: there is no server to send to, or one answers in a way that can't be used.
        """
        check_types(request)
        check_request(request, vocabulary=self._vocabulary, eos_ids=frozenset())
        done = await self._samples.run(self._sample(request, index) for index in range(request.n))
        self.prefilled_tokens += len(request.prompt_ids)
        return done

    async def update_weights(
        self,
        version: int,
        new: Path | str | Mapping[str, Any] | None = None,
        on_update: OnUpdate | str = OnUpdate.KEEP_KV,
    ) -> None:
        """Call what the servers sample with by a new version; what is under way keeps the old one.

        Raises:
            InputError: there are new weights, for which servers have no common route; or the version doesn't
                grow.
        """
        self._samples.relabel(version, new, on_update)

    async def close(self) -> None:
        """End what runs and close the connections."""
        await self._samples.close()
        await cancel(self._returns)
        await self._client.close()
        self.clock.close()

    async def _sample(self, request: Request, index: int) -> Completion:
        """One sample, tried again as often as may be."""
        broken_off, others = 0, 0
        refused_since: float | None = None
        async with self._places:
            while True:
                server = await self._server()
                try:
                    return await self._try(server, request, index)
                except Unavailable as error:
                    self._set_aside(server, error)
                    now = self.clock.now()
                    others = others if broken_off else self.sampled_tokens
                    broken_off += error.taken
                    refused_since = None if error.taken else refused_since or now
                    reason = f"{server.url}: {error}"
                if broken_off > self._config.retries:
                    raise self._given_up(request, broken_off, reason, alone=self.sampled_tokens > others)
                if refused_since and now - refused_since > self._config.unreachable_timeout:
                    raise self._nobody(f"no server took {request.id!r}", reason)

    async def _try(self, server: Server, request: Request, index: int) -> Completion:
        """Send a sample to a server and read its answer."""
        assert server.served
        check_sampling(request.sampling, server.served.logprobs_after)
        body, version = body_of(request, index, server.served), self._samples.version
        server.open += 1
        try:
            with self._samples.busy():
                answer = await self._client.post(f"{server.url}/v1/completions", body)
            done = completion_of(answer, body, version=version, end=self.clock.now())
        except BrokenOff as error:
            raise Unavailable(str(error), taken=True) from error
        except DependencyError as error:
            raise DependencyError(error.message, where=server.url, mend=error.mend) from error
        finally:
            server.open -= 1
        server.failures = 0
        self.sampled_tokens += len(done.token_ids)
        return done

    async def _server(self) -> Server:
        """The server for the next request; waits while all are set aside."""
        limit = self._config.unreachable_timeout
        while True:
            if self._broken:
                raise self._broken
            if server := least_busy(self._servers):
                return server
            left = limit - all_away_for(self._servers, self.clock.now())
            if left <= 0:
                raise self._nobody("no server can be reached", ", ".join(each.url for each in self._servers))
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _nobody(self, problem: str, detail: str) -> DependencyError:
        return DependencyError(
            f"{problem} for openai.unreachable_timeout={self._config.unreachable_timeout:g} s: {detail}",
            mend="start the servers again, then --resume goes on with the run",
        )

    def _given_up(self, request: Request, times: int, reason: str, *, alone: bool) -> AsynckitError:
        """The end of a sample that was broken off too often: its own fault while others went well."""
        problem = (
            f"broken off {times} times, more than openai.retries={self._config.retries} allows; {reason}"
        )
        if alone:
            return RequestError(problem, where=f"request {request.id!r}")
        return DependencyError(problem, mend="mend the servers, then --resume goes on with the run")

    def _set_aside(self, server: Server, error: Unavailable) -> None:
        """Send nothing to a server until it has answered again."""
        if server.away_since is not None:
            return
        log.warning("%s is set aside: %s", server.url, error)
        server.away_since = self.clock.now()
        task = asyncio.create_task(self._bring_back(server, error.retry_after))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def _bring_back(self, server: Server, retry_after: float | None) -> None:
        """Ask a server at growing distances until it answers."""
        try:
            while server.away_since is not None:
                server.failures += 1
                await asyncio.sleep(pause(server.failures, retry_after, self._random.random()))
                try:
                    await self._admit(server)
                except Unavailable as error:
                    retry_after = error.retry_after
        except RequestError as error:
            self._broken = DependencyError(
                f"the server came back as one that can't do what the run needs: {error.message}",
                where=server.url,
                mend=error.mend,
            )
        except Exception as error:  # noqa: BLE001 - raised again in whoever needs a server
            self._broken = error
        self._changed.set()
        self._changed.clear()

    async def _admit(self, server: Server) -> None:
        """Let a server have requests once it has shown that it can serve them."""
        served = await self._probe.ask(server.url)
        check_sampling(self._sampling, served.logprobs_after)
        await self._probe.try_out(server.url, served, self._sampling)
        if server.served != served:
            log.info("%s serves %s", server.url, served)
        server.served, server.away_since = served, None

    async def _admit_patiently(self, server: Server) -> None:
        """Admit a server as soon as it has started."""
        began = self.clock.now()
        while True:
            try:
                await self._admit(server)
            except Unavailable as error:
                waited = self.clock.now() - began
                if not error.busy or waited > self._config.unreachable_timeout:
                    raise DependencyError(
                        f"the server can't be used: {error}",
                        where=server.url,
                        mend="start it, or take it out of openai.base_urls",
                    ) from error
                server.failures += 1
                await asyncio.sleep(pause(server.failures, error.retry_after, self._random.random()))
            else:
                server.failures = 0
                return
