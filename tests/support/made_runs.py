"""Runs as a rollout leaves them, made by the parts that write real ones, without an engine."""

from collections.abc import Callable, Sequence
from pathlib import Path

from asynckit.config.load import load_config
from asynckit.rollout.group import GroupStatus, advantages, group_seed
from asynckit.rollout.ledger import NAME as LEDGER
from asynckit.rollout.ledger import Ledger
from asynckit.rollout.prompting.prompts import Prompt
from asynckit.rollout.record import EngineInfo, Timing, Trajectory, group_id, trajectory_uid
from asynckit.rollout.recovery import regroup
from asynckit.rollout.run_directory import RunDirectory
from asynckit.rollout.sinks import TrajectorySink, part_paths
from asynckit.rollout.summary import Summary, Tally, percentile

Change = Callable[[Trajectory], Trajectory]
N = 4


def same(trajectory: Trajectory) -> Trajectory:
    return trajectory


def sums(count: int) -> list[Prompt]:
    """Prompts, every second of them chat messages."""
    return [
        Prompt(index, None, ({"role": "user", "content": f"{index} + 1?"},), str(index + 1), "sums", {}, "")
        if index % 2
        else Prompt(index, f"{index} + 1 =", None, str(index + 1), "sums", {"level": index % 3}, "")
        for index in range(count)
    ]


def one_group(prompt: Prompt, identity: str, tokens: int = 6) -> tuple[Trajectory, ...]:
    """What a rollouter makes of a prompt: four samples, every second one right, in two policy versions."""
    rewards = [float(index % 2 == 0) for index in range(N)]
    return tuple(
        Trajectory(
            uid=trajectory_uid(prompt, index, 0, identity),
            group_id=group_id(prompt, 0, identity),
            sample_index=index,
            status="truncated" if index == N - 1 else "completed",
            stop_reason="length" if index == N - 1 else "stop",
            messages=[*prompt.chat(), {"role": "assistant", "content": f"it is {prompt.index + 1}, {index}"}],
            data_source=prompt.data_source,
            engine=EngineInfo("torch", "tiny", "digest"),
            prompt_ids=[1, 2, 3],
            response_ids=list(range(10, 10 + tokens + index)),
            response_mask=[1] * (tokens + index),
            logprobs=[-0.25] * (tokens + index),
            version_spans=[(0, 2, prompt.index // 8), (2, tokens + index, prompt.index // 8 + 1)],
            min_version=prompt.index // 8,
            max_version=prompt.index // 8 + 1,
            reward=reward,
            reward_components={"length": float(index)},
            advantage=advantage,
            ground_truth=prompt.ground_truth,
            sampling={"temperature": 1.0, "seed": group_seed(prompt, 0), "n": N},
            timing=Timing(0.0, 1.0, 1.5, 2.0 + index),
            extra=dict(prompt.extra),
        )
        for index, (reward, advantage) in enumerate(zip(rewards, advantages(rewards), strict=True))
    )


def make_run(
    path: Path,
    *settings: str,
    groups: int = 6,
    change: Change = same,
    owed: int = 0,
    unwritten: int = 0,
    summary: bool = True,
    tokens: int = 6,
    part_samples: int = 8,
) -> RunDirectory:
    """A run of ``groups`` sums.

    Args:
        path: its folder.
        settings: ``key=value`` words beside those that the function needs.
        groups: prompts.
        change: of every record before it is written.
        owed: so many groups at the end never ran.
        unwritten: so many groups before those are in the ledger alone, as after a kill.
        summary: whether the run came to its end.
        tokens: in the shortest responses.
        part_samples: records per file.
    """
    loaded = load_config(overrides=[f"rollout.n={N}", f"rollout.out={path}", *settings], environ={})
    prompts = sums(groups)
    directory = RunDirectory.create(path, overwrite=False)
    directory.write_config(loaded.to_replay(), loaded.digest, loaded.identity)
    ledger = Ledger(path / LEDGER)
    ledger.submit([group_id(prompt, 0, loaded.identity) for prompt in prompts])
    rollout = loaded.root.rollout
    tally = Tally()

    def committed(part: Path, written: Sequence[Trajectory]) -> None:
        found = regroup(written)
        tally.add(found)
        ledger.commit(part.name, found)

    sink = TrajectorySink(directory.trajectories, rollout.format, part_samples, 1e9, on_part=committed)
    made = [tuple(map(change, one_group(prompt, loaded.identity, tokens))) for prompt in prompts]
    for number, members in enumerate(made[: groups - owed]):
        (group,) = regroup(members)
        assert ledger.start(group.id) == 1
        assert ledger.complete([group]) == [group]
        if number < groups - owed - unwritten:
            sink.append(members)
    sink.close()
    if summary:
        directory.write_summary(summary_of(directory, ledger, tally).to_dict())
    ledger.close()
    return directory


def summary_of(directory: RunDirectory, ledger: Ledger, tally: Tally) -> Summary:
    counts, submitted = ledger.counts(), len(ledger.ids())
    groups = {each.value: counts.get(each.value, 0) for each in GroupStatus}
    groups["cancelled"] += submitted - sum(groups.values())
    return Summary(
        status="interrupted" if groups["cancelled"] else "done",
        groups=groups,
        samples=dict(tally.samples),
        wanted=submitted - groups["filtered"],
        submitted=submitted,
        versions=len(tally.trained_versions),
        staleness={str(age): count for age, count in sorted(tally.ages.items())},
        mean_reward=tally.mean_reward,
        response_tokens=tally.tokens,
        tokens_per_second=12.5,
        response_length_p50=percentile(tally.lengths, 0.5),
        response_length_p95=percentile(tally.lengths, 0.95),
        idle_ratio=0.25,
        seconds=3.5,
        files=[f"trajectories/{part.name}" for part in part_paths(directory.trajectories)],
        errors=dict(tally.errors.most_common(10)),
        folder=str(directory.path),
    )
