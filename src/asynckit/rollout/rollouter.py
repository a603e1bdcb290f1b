"""A rollouter: one engine, many groups at a time, one asyncio task per group.

A group's task generates its samples, has them scored, turns them into records and puts the finished group
into the message queue, where it may have to wait. Whatever goes wrong with a group is written into its
records; only a broken engine or a lost queue ends the task with an error, which the task runner sees.
"""

import asyncio
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import TemplateError

from asynckit.engine.clock import Clock, RealClock, VirtualClock
from asynckit.engine.completion import Completion
from asynckit.engine.config import SamplingParams
from asynckit.engine.driver import EngineDriver
from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.request import Finish, Request
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.text import cut_at_stop
from asynckit.errors import InputError, RequestError
from asynckit.models.resolve import LocalModel, resolve_model
from asynckit.models.tokenizer import load_tokenizer, tokenizer_digest
from asynckit.rollout.group import FinishedGroup, Group, GroupStatus, advantages
from asynckit.rollout.job import Job
from asynckit.rollout.logs import log_to_file
from asynckit.rollout.prompts import Prompt
from asynckit.rollout.record import EngineInfo, Timing, Trajectory, trajectory_uid
from asynckit.rollout.reward_worker import RewardPool
from asynckit.rollout.rewards import Failure, RewardInput, Score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RollouterStatistics:
    """Seconds since start, seconds the engine stepped, tokens sampled and prefilled, responses scored."""

    seconds: float
    busy_seconds: float
    sampled_tokens: int
    prefilled_tokens: int
    scored: int


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
        self._driver: EngineDriver | None = None
        self._rewards = RewardPool(job.reward, job.import_paths, job.rollout.startup_timeout)

    async def start(self) -> None:
        """Load the model and start the reward workers.

        Raises:
            AsynckitError: the model or the reward function can't be used.
        """
        await asyncio.gather(asyncio.to_thread(self._load), self._rewards.start())
        if self._job.chat and not self._tokenizer.chat_template:
            raise InputError(
                f"the prompts are chat messages, but {self._job.model.name} has no chat template",
                mend="use prompts.chat=false, or a tokenizer with a template (model.tokenizer=…)",
            )
        self._driver = EngineDriver(self._engine, self._clock)
        self._started = time.perf_counter()

    def _load(self) -> None:
        local = resolve_model(self._job.model)
        self._tokenizer = load_tokenizer(local, self._job.model)
        self._engine, self._clock = load_engine(self._job, local)
        self._info = EngineInfo(
            self._job.rollout.engine, self._job.model.name, tokenizer_digest(self._tokenizer)
        )

    async def generate_group(self, group: Group, attempt: int) -> GroupStatus:
        """Take one group from prompt to queue; returns how it ended once the queue has it.

        Args:
            group: the group.
            attempt: how often it has been started, from 1.
        """
        start = self._clock.now()
        try:
            assert self._driver
            prompt_ids = self._encode(group.prompt)
            completions = await self._driver.generate(
                Request(group.id, prompt_ids, self._sampling_of(group), group.n)
            )
        except (RequestError, InputError) as error:
            prompt_ids = ()
            completions = [
                Completion(finish=Finish.ERROR, error=str(error), end=self._clock.now())
                for _ in range(group.n)
            ]
        texts = [self._text(completion) for completion in completions]
        scores = await self._score(group.prompt, texts, completions)
        values = [score.value if isinstance(score, Score) else None for score in scores]
        trajectories = tuple(
            self._record(group, index, attempt, prompt_ids, start, *parts)
            for index, parts in enumerate(zip(completions, texts, scores, advantages(values), strict=True))
        )
        failures = [score.error for score in scores if isinstance(score, Failure)]
        if failures:
            log.warning("%s: %d samples failed: %s", group.prompt.where, len(failures), failures[0])
        status = GroupStatus.FAILED if failures else GroupStatus.COMPLETED
        await self._queue.put.remote(FinishedGroup(group.id, status, trajectories))
        return status

    async def statistics(self) -> RollouterStatistics:
        """What the engine has done since it started; nothing before that."""
        if self._driver is None:
            return RollouterStatistics(0.0, 0.0, 0, 0, 0)
        return RollouterStatistics(
            time.perf_counter() - self._started,
            self._driver.busy_seconds,
            self._driver.sampled_tokens,
            self._driver.prefilled_tokens,
            self._rewards.scored,
        )

    async def close(self) -> None:
        """Stop the engine and the reward workers."""
        if self._driver:
            await self._driver.close()
        self._rewards.close()

    def _sampling_of(self, group: Group) -> SamplingParams:
        return SamplingParams(**{**asdict(self._job.sampling), "seed": group.seed})

    def _encode(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.messages is None:
            return tuple(self._tokenizer(prompt.text)["input_ids"])
        try:
            encoded = self._tokenizer.apply_chat_template(
                prompt.chat(), add_generation_prompt=True, return_dict=True
            )
        except (
            TemplateError,
            TypeError,
            ValueError,
            KeyError,
        ) as error:  # templates refuse what they can't lay out
            raise InputError(
                f"the chat template refuses the messages: {error}",
                where=prompt.where,
                mend="order the roles as the model's template asks, or use prompts.chat=false",
            ) from error
        return tuple(encoded["input_ids"])

    def _text(self, completion: Completion) -> str:
        text: str = self._tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        return cut_at_stop(text, self._job.sampling.stop) if completion.finish is Finish.STOP else text

    async def _score(
        self, prompt: Prompt, texts: list[str], completions: list[Completion]
    ) -> list[Score | Failure]:
        """Score what the engine could answer."""
        answered = [done.finish is not Finish.ERROR for done in completions]
        items = [RewardInput(text, prompt) for text, good in zip(texts, answered, strict=True) if good]
        scores = iter(await self._rewards.score(items) if items else [])
        return [
            next(scores) if good else Failure(done.error)
            for done, good in zip(completions, answered, strict=True)
        ]

    def _record(
        self,
        group: Group,
        index: int,
        attempt: int,
        prompt_ids: tuple[int, ...],
        start: float,
        completion: Completion,
        text: str,
        score: Score | Failure,
        advantage: float | None,
    ) -> Trajectory:
        assert completion.finish is not None
        value, components, error = _parts(score)
        status = "truncated" if completion.finish is Finish.LENGTH else "completed"
        prompt = group.prompt
        length = len(completion.token_ids)
        return Trajectory(
            uid=trajectory_uid(prompt, index, self._job.sampling.seed, self._job.identity),
            group_id=group.id,
            sample_index=index,
            attempt=attempt,
            status="failed" if error else status,
            stop_reason=completion.finish.value,
            messages=[*prompt.chat(), {"role": "assistant", "content": text}],
            prompt_ids=list(prompt_ids),
            response_ids=completion.token_ids,
            response_mask=[1] * length,
            logprobs=completion.logprobs,
            version_spans=version_spans(completion.versions),
            min_version=min(completion.versions, default=None),
            max_version=max(completion.versions, default=None),
            reward=value,
            reward_components=components,
            advantage=advantage,
            ground_truth=prompt.ground_truth,
            data_source=prompt.data_source,
            sampling={**asdict(self._sampling_of(group)), "n": group.n},
            engine=self._info,
            turns=1,
            timing=self._timing(group, start, completion),
            error=error,
            extra=dict(prompt.extra),
        )

    def _timing(self, group: Group, start: float, completion: Completion) -> Timing:
        first = completion.first_token
        virtual = isinstance(self._clock, VirtualClock)
        zero = 0.0 if virtual else self._job.began
        return Timing(
            queued=0.0 if virtual else group.queued - zero,
            start=start - zero,
            first_token=None if first is None else first - zero,
            end=completion.end - zero,
        )


def load_engine(job: Job, local: LocalModel) -> tuple[InferenceEngine, Clock]:
    """The engine that a run asks for, and its clock.

    Raises:
        AsynckitError: it can't be had.
    """
    if job.rollout.engine == "simulated":
        simulated = SimulatedEngine.load(job.engine, job.simulated)
        return simulated, simulated.clock
    from asynckit.engine.engine import Engine  # imports torch, which the other engine does without

    return Engine.load(job.engine, job.model, local), RealClock()


def failed_group(group: Group, job: Job, error: str) -> FinishedGroup:
    """A group that ended without a response; every sample says why."""
    prompt = group.prompt
    trajectories = tuple(
        Trajectory(
            uid=trajectory_uid(prompt, index, job.sampling.seed, job.identity),
            group_id=group.id,
            sample_index=index,
            status="failed",
            messages=prompt.chat(),
            data_source=prompt.data_source,
            engine=EngineInfo(job.rollout.engine, job.model.name, ""),
            ground_truth=prompt.ground_truth,
            error=error,
            extra=dict(prompt.extra),
        )
        for index in range(group.n)
    )
    return FinishedGroup(group.id, GroupStatus.FAILED, trajectories)


def _parts(score: Score | Failure) -> tuple[float | None, dict[str, float], str]:
    """Reward, components and error as a record has them."""
    if isinstance(score, Failure):
        return None, {}, score.error
    return score.value, score.components, ""


def version_spans(versions: list[int]) -> list[tuple[int, int, int]]:
    """Runs of equal versions as ``(start, end, version)``, end exclusive, covering all tokens in order."""
    spans: list[tuple[int, int, int]] = []
    for position, version in enumerate(versions):
        if spans and spans[-1][2] == version:
            spans[-1] = (spans[-1][0], position + 1, version)
        else:
            spans.append((position, position + 1, version))
    return spans
