"""Rollouts with environments: real processes, a real Ray and a tiny model that says anything."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import TINY, Run
from transformers import AutoModelForCausalLM, AutoTokenizer

from asynckit.rollout.record import Trajectory
from asynckit.rollout.sinks import read_trajectories

# The end-of-text token is likely, so that turns end by it, and others reach their limit.
SHORT = (*TINY, "prompts.chat=true", "sampling.max_tokens=24", "sampling.logit_bias.0=12", "rollout.n=3")

ENVIRONMENTS = '''
import os
import time


class Counter:
    """Answers twice, whatever it hears, with what it knows."""

    def __init__(self, ground_truth, seed):
        self.truth, self.seed, self.heard = ground_truth, seed, []

    async def step(self, text):
        self.heard.append(text)
        return None if len(self.heard) == 3 else f"{self.truth} {self.seed % 1000} {len(self.heard)}"

    def reward(self):
        return len(self.heard)

    def close(self):
        with open("closed", "a") as file:
            file.write("x")


class Endless:
    def step(self, text):
        return {"role": "user", "content": "go on"}


class Unlucky:
    """Does to every second sample what its prompt asks for."""

    def __init__(self, messages, seed):
        self.fate = messages[-1]["content"][0] if seed % 2 else ""

    def step(self, text):
        if self.fate == "1":
            raise ValueError("one is unlucky")
        if self.fate == "2":
            time.sleep(600)
        if self.fate == "3":
            os._exit(3)
        if self.fate == "4":
            return 4


def score(messages, response):
    assert messages[-1] == {"role": "assistant", "content": response}
    return len(messages)
'''


def run(asynckit: Run, model: Path, sums: Path, *arguments: str) -> tuple[int, str, list[Trajectory]]:
    """The exit code of a rollout with the environments above, what it said, and its records."""
    (sums.parent / "mine.py").write_text(ENVIRONMENTS)
    done = asynckit("rollout", "-m", str(model), "-p", str(sums), "-o", "out", *SHORT, *arguments)
    return done.returncode, done.stderr, list(read_trajectories(sums.parent / "out" / "trajectories"))


def test_a(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    code, said, found = run(asynckit, tiny_llama, sums, "rollout.environment=mine:Counter", "-r", "environment")
    print(said)
    for t in found:
        print(t.status, t.stop_reason, t.turns, t.reward, t.reward_components, t.messages, t.response_mask, t.error)
    assert 0
