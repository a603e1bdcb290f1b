"""Conversations: the samples of a group with an environment, from the end of their first turn on.

After the first turn, which is one request for all, every sample goes its own way: its environment hears what
the assistant said and answers, the assistant speaks again on top of all tokens so far, and so on.

============================================  ===========  ============
a sample ends when                            status       stop_reason
============================================  ===========  ============
the environment says None                     completed    stop
a turn reaches ``max_tokens``                 truncated    length
the next turn has no room in the model        truncated    length
``max_turns`` turns are over                  truncated    max_turns
the environment raises, hangs or dies         failed       error
============================================  ===========  ============
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from asynckit.engine.request import Finish, Request
from asynckit.errors import InputError, NoRoom, WorkFailed
from asynckit.rollout.engines.generator import Generator
from asynckit.rollout.episodes.environment_processes import EnvironmentProcesses
from asynckit.rollout.episodes.environment_processes import Episode as Environment
from asynckit.rollout.episodes.environments import arguments_of
from asynckit.rollout.episodes.episode import Episode
from asynckit.rollout.episodes.turns import TurnTemplate, text_of, turn_seed
from asynckit.rollout.group import Group
from asynckit.rollout.job import Job
from asynckit.rollout.recording import sampling_of

_SOONER = -1  # priority of later turns: what has begun ends first, while its prefix is still in the cache


class _OutdatedError(Exception):
    """New weights came, and the group is to begin again with them."""


class Conversations:
    """Lets the samples of groups talk with their environments.

    Args:
        job: the run, with an environment.
        processes: of the environments, started.
        tokenizer: of the model.
        generator: generates the turns.
        version: tells which policy version is to be sampled with now.

    Raises:
        InputError: the tokenizer's chat template has no place for what an environment says.
    """

    def __init__(
        self,
        job: Job,
        processes: EnvironmentProcesses,
        tokenizer: Any,
        generator: Generator,
        version: Callable[[], int],
    ) -> None:
        self._job = job
        self._processes = processes
        self._tokenizer = tokenizer
        self._template = TurnTemplate(tokenizer)
        self._generator = generator
        self._version = version

    async def go_on(self, group: Group, prompt_ids: Sequence[int], episodes: Sequence[Episode]) -> bool:
        """Take the samples from their first turn to their end.

        Returns:
            False where the group has to begin again, with new environments, because new weights came and
            ``on_update`` is ``restart``.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for index, episode in enumerate(episodes):
                    tasks.create_task(self._converse(group, index, prompt_ids, episode))
        except ExceptionGroup as errors:
            _, others = errors.split(_OutdatedError)
            if others:
                raise others.exceptions[0] from None
            return False
        return True

    async def _converse(self, group: Group, index: int, prompt_ids: Sequence[int], episode: Episode) -> None:
        if episode.error:
            return
        arguments = arguments_of(group.prompt, turn_seed(group.seed, index, 0))
        try:
            async with self._processes.episode(arguments) as environment:
                while await self._turn(group, index, prompt_ids, episode, environment):
                    pass
                if not episode.error:
                    episode.reward = await environment.reward()
        except (WorkFailed, InputError) as error:  # of the environment, and of requests with what it said
            episode.fail(str(error))

    async def _turn(
        self,
        group: Group,
        index: int,
        prompt_ids: Sequence[int],
        episode: Episode,
        environment: Environment,
    ) -> bool:
        """Let the environment and then the assistant speak; returns whether the assistant did."""
        if episode.finish is not Finish.STOP:
            return False
        reply = await environment.step(episode.text)
        if reply is None:
            return False
        if episode.turns >= self._job.rollout.max_turns:
            episode.cut = "max_turns"
            return False
        self._stop_if_outdated(episode)
        message, ids = self._template.lay_out(reply, episode.response_ids[-1])
        seed = turn_seed(group.seed, index, episode.turns)
        request = Request(
            f"{group.id}/{index}/{episode.turns}",
            (*prompt_ids, *episode.response_ids, *ids),
            replace(sampling_of(self._job, group), seed=seed),
            priority=_SOONER,
        )
        try:
            (completion,) = await self._generator.generate(request)
        except NoRoom:
            episode.cut = "length"
            return False
        if completion.finish is Finish.ABORT:
            self._stop_if_outdated(episode)
        episode.hear(message, ids)
        episode.say(completion, text_of(self._tokenizer, completion, self._job.sampling.stop))
        return True

    def _stop_if_outdated(self, episode: Episode) -> None:
        """Raise where all tokens are to be of one version, and there is a newer one by now."""
        restarts = self._job.async_training.on_update == "restart"
        if restarts and episode.versions[0] != self._version():
            raise _OutdatedError
