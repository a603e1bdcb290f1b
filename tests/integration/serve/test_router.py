"""The router and model workers together, over real sockets, with real processes."""

import asyncio
from pathlib import Path

from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.serve.config import ServeConfig
from asynckit.serve.messages import (
    Abort,
    Drain,
    LoadAdapter,
    Lost,
    Peers,
    Refused,
    UnloadAdapter,
    UpdateWeights,
)
from small_ring import SmallRing, small_ring

SLOW = SimulatedConfig(step_seconds="constant(0.01)", response_tokens="constant(400)")


async def test_tokens_arrive_in_order_and_requests_end_once(tmp_path: Path) -> None:
    """Whoever asks gets every token of every sample, one end each, and a timing."""
    async with small_ring(tmp_path) as ring:
        asked = [ring.generate((1, 2, 3 + i), n=2, max_tokens=5, ignore_eos=True) for i in range(20)]
        answers = await asyncio.gather(*(ring.complete(each) for each in asked))
        for answer in answers:
            assert answer.begun == 1
            assert answer.finishes == {0: "length", 1: "length"}
            assert [len(answer.ids(sample)) for sample in (0, 1)] == [5, 5]
            assert answer.timing
            assert answer.timing.arrived <= answer.timing.started <= answer.timing.first_token
        state = await ring.state()
        assert (state.running, state.waiting, state.kv_usage, state.finished) == (0, 0, 0.0, 20)
        assert state.generated_tokens == 200
