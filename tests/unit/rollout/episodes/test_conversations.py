"""Conversations on the simulated engine: who speaks when, how they end, and when they begin again."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jobs import make_job
from tiny_models import save_tokenizer

from asynckit.engine.config import EngineConfig
from asynckit.engine.driver import EngineDriver
from asynckit.engine.request import OnUpdate, Request
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.rollout.episodes.conversations import Conversations
from asynckit.rollout.episodes.environment_processes import EnvironmentProcesses
from asynckit.rollout.episodes.episode import Episode
from asynckit.rollout.episodes.turns import text_of
from asynckit.rollout.group import Group
from asynckit.rollout.job import Job
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.recording import sampling_of

PROMPT = Prompt(0, None, ({"role": "user", "content": "?"},), "4", "sums", {}, "sums.jsonl:1")
IDS = (1, 2, 3)
TALKER = """
class Talker:
    def __init__(self, seed):
        self.seed, self.turns = seed, 0

    def step(self, text):
        self.turns += 1
        return None if self.turns == 3 else f"{self.seed} {self.turns}"

    def reward(self):
        return self.turns / 2


class Mute:
    def step(self, text):
        return {"role": "user", "content": ""}
"""


def job(folder: Path, *settings: str) -> Job:
    """A run with one of the environments above."""
    (folder / "talkers.py").write_text(TALKER)
    return make_job("sampling.max_tokens=40", *settings, folder=folder, chat=True)


class Table:
    """A group's first turns, and what lets them go on."""

    def __init__(
        self, its: Job, driver: EngineDriver, tokenizer: Any, processes: EnvironmentProcesses
    ) -> None:
        self.group = Group("g", PROMPT, 3, 7, 0.0)
        self.driver = driver
        self.job = its
        self.tokenizer = tokenizer
        self.processes = processes

    async def first_turns(self) -> list[Episode]:
        """What the assistant says first in each sample."""
        episodes = []
        request = Request(self.group.id, IDS, sampling_of(self.job, self.group), self.group.n)
        for completion in await self.driver.generate(request):
            episodes.append(Episode())
            episodes[-1].say(completion, text_of(self.tokenizer, completion, ()))
        return episodes

    def conversations(self, version: Callable[[], int] = lambda: 0) -> Conversations:
        """What takes them on."""
        return Conversations(self.job, self.processes, self.tokenizer, self.driver, version)


@asynccontextmanager
async def table(its: Job, lengths: str = "uniform(2,6)", room: int = 8192) -> AsyncIterator[Table]:
    """A simulated engine whose end-of-text token is the tokenizer's, and everything around it."""
    from transformers import AutoTokenizer

    save_tokenizer(its.folder)
    tokenizer = AutoTokenizer.from_pretrained(its.folder)
    simulated = SimulatedConfig(
        response_tokens=lengths,
        vocabulary=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        max_model_len=room,
        clock="virtual",
    )
    engine = SimulatedEngine.load(EngineConfig(), simulated)
    driver = EngineDriver(engine, engine.clock)
    processes = EnvironmentProcesses.of(its)
    assert processes
    await processes.start()
    try:
        yield Table(its, driver, tokenizer, processes)
    finally:
        await processes.close()
        await driver.close()


def check(episode: Episode) -> None:
    """Every list has an entry per token, and what was not sampled has no logprob."""
    length = len(episode.response_ids)
    assert length == len(episode.response_mask) == len(episode.logprobs) == len(episode.versions)
    for sampled, logprob in zip(episode.response_mask, episode.logprobs, strict=True):
        assert sampled or logprob == 0


async def test_samples_go_their_own_ways_and_the_same_ones_again(tmp_path: Path) -> None:
    """Each has its own environment; a later turn's tokens depend on group, sample and turn alone."""
    its = job(tmp_path, "rollout.environment=talkers:Talker")
    async with table(its) as at:
        found = []
        for _ in range(2):
            episodes = await at.first_turns()
            assert await at.conversations().go_on(at.group, IDS, episodes)
            found.append([each.response_ids for each in episodes])
    assert found[0] == found[1]
    assert len({tuple(ids[-2:]) for ids in found[0]}) > 1
    for each in episodes:
        check(each)
        assert [message["role"] for message in each.messages] == ["assistant", "tool"] * 2 + ["assistant"]
        assert (each.turns, each.reward, each.cut, each.error) == (3, 1.5, "", "")
        assert each.text == each.messages[-1]["content"]
    assert len({each.messages[1]["content"] for each in episodes}) == 3, "every environment has its own seed"


async def test_a_conversation_has_at_most_max_turns(tmp_path: Path) -> None:
    """The environment's last words, which nobody answers, are left out."""
    its = job(tmp_path, "rollout.environment=talkers:Mute", "rollout.max_turns=2")
    async with table(its) as at:
        episodes = await at.first_turns()
        assert await at.conversations().go_on(at.group, IDS, episodes)
    for each in episodes:
        assert (each.turns, each.cut, each.messages[-1]["role"]) == (2, "max_turns", "assistant")
        assert each.response_mask[-1] == 1


async def test_a_conversation_ends_where_the_model_s_context_does(tmp_path: Path) -> None:
    """Whether a turn fills it up or the next has no room: what was said is kept, and it ends with a turn."""
    its = job(tmp_path, "rollout.environment=talkers:Mute", "rollout.max_turns=1000")
    async with table(its, room=100) as at:
        episodes = await at.first_turns()
        assert await at.conversations().go_on(at.group, IDS, episodes)
    for each in episodes:
        check(each)
        assert each.cut == "length" or each.finish == "length"
        assert len(IDS) + len(each.response_ids) <= 100
        assert each.response_mask[-1] == 1


async def test_a_turn_at_its_limit_is_the_last(tmp_path: Path) -> None:
    """What was cut off is nothing to answer; the environment still says what it is worth."""
    its = job(tmp_path, "rollout.environment=talkers:Talker")
    async with table(its, lengths="constant(99)") as at:
        episodes = await at.first_turns()
        assert await at.conversations().go_on(at.group, IDS, episodes)
    assert [(each.turns, each.finish, each.reward) for each in episodes] == [(1, "length", 0.0)] * 3


@pytest.mark.parametrize(("on_update", "goes_on"), [("keep_kv", True), ("restart", False)])
async def test_new_weights_between_turns(tmp_path: Path, on_update: str, goes_on: bool) -> None:
    """Spans say so; with restart the group is to begin again, so that its tokens are of one version."""
    its = job(tmp_path, "rollout.environment=talkers:Talker", f"async_training.on_update={on_update}")
    async with table(its) as at:
        episodes = await at.first_turns()
        await at.driver.update_weights(1, None, OnUpdate.KEEP_KV)
        assert await at.conversations(lambda: 1).go_on(at.group, IDS, episodes) is goes_on
    for each in episodes:
        check(each)
        if goes_on:
            assert each.versions == sorted(each.versions)
            assert {each.versions[0], each.versions[-1]} == {0, 1}
