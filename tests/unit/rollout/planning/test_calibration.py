"""Step times from records: known ones are found again, and what tells nothing is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.request import Request
from asynckit.engine.simulated import SimulatedEngine
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError
from asynckit.rollout.planning.calibration import StepTimes, calibrate, fit, with_times
from asynckit.rollout.planning.simulation import SimulatedGroup
from asynckit.rollout.planning.workload import (
    RecordedSample,
    groups_from_prompts,
    groups_from_records,
    read_recorded,
)
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import EngineInfo, Timing, Trajectory
from asynckit.rollout.sinks import TrajectorySink

ENGINE = EngineConfig(max_running=16)
TIMES = StepTimes(0.02, 0.001, 0.0004)
SIMULATED = with_times(SimulatedConfig(response_tokens="lognormal(30,200)", clock="virtual"), TIMES)


def recorded(groups: int, n: int = 4, engine: EngineConfig = ENGINE) -> list[RecordedSample]:
    """What the records of a run by the token-by-token engine would say."""
    simulated = SimulatedEngine.load(engine, SIMULATED)
    prompts = {str(i): tuple(range(i, 60 + i * 7 % 90 + i)) for i in range(groups)}
    for name, prompt in prompts.items():
        params = SamplingParams(max_tokens=256, seed=int(name))
        simulated.add(Request(name, prompt, params, n))
    firsts: dict[tuple[str, int], float] = {}
    counts: dict[tuple[str, int], int] = {}
    found = []
    while simulated.has_work():
        for event in simulated.step():
            key = event.request_id, event.sample_index
            now = simulated.clock.now()
            counts[key] = counts.get(key, 0) + 1
            first = firsts.setdefault(key, now)
            if event.finish:
                ids = prompts[event.request_id]
                found.append(RecordedSample(event.request_id, ids, counts[key], 0.0, first, now))
    return sorted(found, key=lambda sample: int(sample.group_id))


def test_the_step_times_of_a_run_are_found_again() -> None:
    """Each of the three numbers, and the makespan."""
    found = calibrate(recorded(60), engine=ENGINE, simulated=SIMULATED, replicas=1)
    assert found.times.step == pytest.approx(TIMES.step, rel=0.02)
    assert found.times.sequence == pytest.approx(TIMES.sequence, rel=0.02)
    assert found.times.prefill_token == pytest.approx(TIMES.prefill_token, rel=0.02)
    assert found.explained > 0.99
    assert found.error == pytest.approx(0, abs=0.02)
    assert found.samples <= 240


def test_a_single_wave_is_fitted_too() -> None:
    """Nobody starts beside the others, so prefill can't be told; the makespan still fits."""
    found = calibrate(recorded(4), engine=ENGINE, simulated=SIMULATED, replicas=1)
    assert found.error == pytest.approx(0, abs=0.05)


def test_preemptions_make_the_other_fit_better() -> None:
    """Where sequences lose their cache, tokens don't count steps; the makespan is still about right."""
    short = replace(ENGINE, kv_cache_tokens=1500)
    found = calibrate(recorded(40, engine=short), engine=short, simulated=SIMULATED, replicas=1)
    assert found.error == pytest.approx(0, abs=0.25)


def test_two_replicas_count_as_halves() -> None:
    """The records of two equal replicas, put together, give about the numbers of one."""
    one = recorded(40)
    two = [*one, *(replace(sample, group_id=f"b{sample.group_id}") for sample in one)]
    times, used, _ = fit(two, ENGINE.block_size, 2, counted=False)
    assert used == len([sample for sample in two if sample.tokens > 1])
    assert times.step == pytest.approx(TIMES.step, rel=0.3)


def test_too_little_is_refused() -> None:
    """A fit to three samples would be invented."""
    with pytest.raises(InputError, match="can't be fitted to 4 samples"):
        calibrate(recorded(1), engine=ENGINE, simulated=SIMULATED, replicas=1)


def record_of(sample: RecordedSample, **changes: object) -> Trajectory:
    length = sample.tokens
    made = Trajectory(
        uid=f"{sample.group_id}-{sample.end}",
        group_id=sample.group_id,
        sample_index=0,
        status="completed",
        messages=[],
        data_source="",
        engine=EngineInfo("simulated", "", ""),
        prompt_ids=list(sample.prompt_ids),
        response_ids=[1] * length,
        response_mask=[1] * length,
        logprobs=[0.0] * length,
        version_spans=[(0, length, 0)],
        min_version=0,
        max_version=0,
        reward=0.0,
        timing=Timing(0.0, sample.start, sample.first_token, sample.end),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def a_run(folder: Path, records: list[Trajectory]) -> Path:
    (folder / "trajectories").mkdir()
    (folder / "logs" / "attempt-1").mkdir(parents=True)
    sink = TrajectorySink(folder / "trajectories", format="parquet", part_samples=100, part_seconds=1.0)
    sink.append(records)
    sink.close()
    return folder


def test_a_run_directory_is_read(tmp_path: Path) -> None:
    """Samples without a response or its times are left out."""
    samples = recorded(3, n=2)
    failed = record_of(samples[0], status="failed", error="no", reward=None)
    run = a_run(tmp_path, [*map(record_of, samples), failed, record_of(samples[1], timing=Timing())])
    assert read_recorded(run) == samples
    again = groups_from_records(read_recorded(run))
    assert [group.request.n for group in again] == [2, 2, 2]
    assert [group.lengths for group in again] == [
        tuple(s.tokens for s in samples if s.group_id == name) for name in ("0", "1", "2")
    ]


def test_runs_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    """Neither an empty run, nor one with a pause in its times, nor a folder that is none."""
    with pytest.raises(InputError, match="no such folder"):
        read_recorded(tmp_path)
    run = a_run(tmp_path, [record_of(recorded(1)[0], timing=Timing())])
    with pytest.raises(InputError, match="no sample in it"):
        read_recorded(run)
    (run / "logs" / "attempt-2").mkdir()
    with pytest.raises(InputError, match="2 attempts"):
        read_recorded(run)


def test_the_groups_of_a_run_come_from_its_prompts() -> None:
    """In turn until there are enough, each time with another seed and so with other lengths."""
    prompts = [Prompt(i, f"{i}", None, None, "sums", {}, f"sums:{i}") for i in range(3)]
    stream = PromptStream(prompts, epochs=2, shuffle=False, seed=0)
    sampling = SamplingParams(max_tokens=9)

    def made(total: int | None) -> list[SimulatedGroup]:
        return groups_from_prompts(
            stream, lambda prompt: (int(prompt.text or ""),), n=2, sampling=sampling, total=total
        )

    seven = made(7)
    assert [group.request.prompt_ids for group in seven] == [(0,), (1,), (2,), (0,), (1,), (2,), (0,)]
    assert len({group.request.sampling.seed for group in seven}) == 7
    assert all(group.request.sampling.max_tokens == 9 for group in seven)
    assert len(made(2)) == 2
    assert len(made(None)) == 6
