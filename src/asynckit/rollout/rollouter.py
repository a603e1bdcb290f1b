"""A rollouter: one engine, many groups at a time, one asyncio task per group.

A group's task generates its samples, has them scored, turns them into records and puts the finished group
into the message queue, where it may have to wait. Whatever goes wrong with a group is written into its
records; only a broken engine or a lost queue ends the task with an error, which the task runner sees.

New weights come between two steps of the engine. With ``partial_rollout`` they interrupt what is being
generated; without, they wait until it has ended, and groups that arrive meanwhile wait for them.
"""

import asyncio
import logging
import pickle
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from asynckit.engine.clock import VirtualClock
from asynckit.engine.completion import Completion
from asynckit.engine.request import Finish, OnUpdate, Request
from asynckit.errors import InputError, RequestError
from asynckit.models.tokenizer import load_tokenizer, tokenizer_digest
from asynckit.rollout.engines.generator import Generator
from asynckit.rollout.engines.generators import find_model, open_generator
from asynckit.rollout.episodes.conversations import Conversations
from asynckit.rollout.episodes.environment_processes import EnvironmentProcesses
from asynckit.rollout.episodes.episode import Episode
from asynckit.rollout.episodes.turns import text_of
from asynckit.rollout.group import Group
from asynckit.rollout.job import Job
from asynckit.rollout.logs import log_to_file
from asynckit.rollout.prompting.encoding import encode_prompt, require_chat_template
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import EngineInfo
from asynckit.rollout.recording import finished_group, sampling_of
from asynckit.rollout.scoring.reward_pool import RewardPool
from asynckit.rollout.scoring.rewards import Failure, RewardInput, Score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RollouterStatistics:
    """What a rollouter has done since it started, and what it is at.

    Attributes:
        seconds: since it started.
        busy_seconds: for which its engine worked.
        sampled_tokens, prefilled_tokens, scored: so far; responses in the last case.
        version: of its weights.
        updating: whether new weights are on their way in.
        at: how many groups are being generated, scored, and put into the queue.
    """

    seconds: float = 0.0
    busy_seconds: float = 0.0
    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    scored: int = 0
    version: int = 0
    updating: bool = False
    at: dict[str, int] = field(default_factory=dict)


class FullyAsyncRollouter:
    """Generates and scores groups; made to run as a Ray actor.

    Args:
        job: the run.
        queue: handle of the message queue that takes finished groups.
        name: of its log file.
    """

    def __init__(self, *, job: Job, queue: Any, name: str) -> None:
        log_to_file(job.folder, name, job.attempt)
        self._job = job
        self._queue = queue
        self._generator: Generator | None = None
        self._rewards = RewardPool(job.reward, job.import_paths, job.rollout.startup_timeout)
        self._environments = EnvironmentProcesses.of(job)
        self._conversations: Conversations | None = None
        self._version = 0
        self._updating = False
        self._at: Counter[str] = Counter()
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        """Load the model and start the reward workers and environments.

        Raises:
            AsynckitError: the model, the reward function or the environment can't be used.
        """
        starts = [self._rewards.start(), *([self._environments.start()] if self._environments else [])]
        generator, _ = await asyncio.gather(self._load(), asyncio.gather(*starts))
        if self._job.chat:
            require_chat_template(self._tokenizer, self._job.model.name)
        self._clock, self._generator = generator.clock, generator
        if self._environments:
            self._conversations = Conversations(
                self._job, self._environments, self._tokenizer, generator, lambda: self._version
            )
        self._started = time.perf_counter()

    async def _load(self) -> Generator:
        job = self._job
        local = await asyncio.to_thread(find_model, job.model, job.rollout.engine)
        self._tokenizer = await asyncio.to_thread(load_tokenizer, local, job.model)
        self._info = EngineInfo(job.rollout.engine, job.model.name, tokenizer_digest(self._tokenizer))
        return await open_generator(job, local, self._tokenizer)

    async def generate_group(self, group: Group, attempt: int) -> str:
        """Take one group from prompt to queue; returns which incarnation of the queue has it.

        Args:
            group: the group.
            attempt: how often it has been started, from 1.
        """
        async with self._weights_still():
            with self._counted("generating"):
                prompt_ids, episodes = await self._generate(group)
        with self._counted("scoring"):
            scores = await self._score(group.prompt, episodes)
        finished = finished_group(
            self._job,
            self._info,
            group,
            attempt=attempt,
            prompt_ids=prompt_ids,
            episodes=episodes,
            scores=scores,
            virtual=isinstance(self._clock, VirtualClock),
        )
        failures = [score.error for score in scores if isinstance(score, Failure)]
        if failures:
            log.warning("%s: %d samples failed: %s", group.prompt.where, len(failures), failures[0])
        with self._counted("queueing"):
            # As bytes, which the queue holds unread: to unpack and pack them would take it longer.
            incarnation: str = await self._queue.put.remote(pickle.dumps(finished))
        return incarnation

    async def update_weights(self, version: int, new: Mapping[str, Any] | None) -> None:
        """Sample with new weights; returns when the engine has them.

        Args:
            version: theirs.
            new: tensors under the names that the model was saved with; None where only the version is new.

        Raises:
            AsynckitError: they don't fit.
        """
        assert self._generator
        self._updating = True
        try:
            if not self._job.async_training.partial_rollout:
                async with self._moved:
                    await self._moved.wait_for(lambda: not self._at["generating"])
            restart = self._job.async_training.on_update == "restart"
            on_update = OnUpdate.ABORT if restart else OnUpdate(self._job.async_training.on_update)
            # The aborted ask which version they are to start again with.
            self._version = version
            await self._generator.update_weights(version, new, on_update)
        finally:
            self._updating = False
            async with self._moved:
                self._moved.notify_all()

    async def statistics(self) -> RollouterStatistics:
        """What the engine has done since it started; nothing before that."""
        if self._generator is None:
            return RollouterStatistics()
        return RollouterStatistics(
            time.perf_counter() - self._started,
            self._generator.busy_seconds,
            self._generator.sampled_tokens,
            self._generator.prefilled_tokens,
            self._rewards.scored,
            self._version,
            self._updating,
            dict(self._at),
        )

    async def live(self) -> None:
        """Never return: whoever waits for this hears at once when the rollouter dies."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Stop the engine, the reward workers and the environments."""
        if self._generator:
            await self._generator.close()
        if self._environments:
            await self._environments.close()
        await self._rewards.close()

    async def _generate(self, group: Group) -> tuple[tuple[int, ...], list[Episode]]:
        """The group's prompt and samples; those of a group that can't be generated say why."""
        start = self._clock.now()
        try:
            prompt_ids = encode_prompt(self._tokenizer, group.prompt)
            request = Request(group.id, prompt_ids, sampling_of(self._job, group), group.n)
            while True:
                episodes = [self._episode(each, start) for each in await self._complete(request)]
                if not self._conversations or await self._conversations.go_on(group, prompt_ids, episodes):
                    return prompt_ids, episodes
        except (RequestError, InputError) as error:
            end = self._clock.now()
            return (), [Episode(error=str(error), start=start, end=end) for _ in range(group.n)]

    async def _complete(self, request: Request) -> list[Completion]:
        """Run a request to its end, again from its beginning whenever new weights ended it."""
        assert self._generator
        while True:
            version = self._version
            completions = await self._generator.generate(request)
            aborted = any(each.finish is Finish.ABORT for each in completions)
            if not aborted or self._version == version:
                return completions

    def _episode(self, completion: Completion, start: float) -> Episode:
        episode = Episode(start=start)
        episode.say(completion, text_of(self._tokenizer, completion, self._job.sampling.stop))
        return episode

    async def _score(self, prompt: Prompt, episodes: list[Episode]) -> list[Score | Failure]:
        """Score what was answered."""
        answered = [not episode.error for episode in episodes]
        items = [
            RewardInput(e.text, prompt, tuple(e.messages), e.reward)
            for e, good in zip(episodes, answered, strict=True)
            if good
        ]
        scores = iter(await self._rewards.score(items) if items else [])
        return [
            next(scores) if good else Failure(episode.error)
            for episode, good in zip(episodes, answered, strict=True)
        ]

    @asynccontextmanager
    async def _weights_still(self) -> AsyncIterator[None]:
        """Without partial rollouts: begin only while no new weights wait for those that are generating."""
        if not self._job.async_training.partial_rollout:
            async with self._moved:
                await self._moved.wait_for(lambda: not self._updating)
        try:
            yield
        finally:
            async with self._moved:
                self._moved.notify_all()

    @contextmanager
    def _counted(self, what: str) -> Iterator[None]:
        self._at[what] += 1
        try:
            yield
        finally:
            self._at[what] -= 1
