"""What two snapshots of a run say in numbers, under verl's names where verl has the number.

What would be 0/0 is left out: the mean reward of an interval in which nothing was scored does not exist.
``docs/metrics.md`` describes every name.
"""

from collections.abc import Mapping, Sequence

from asynckit.rollout.observing.snapshot import ReplicaSnapshot, Snapshot


def metrics_of(previous: Snapshot | None, now: Snapshot) -> dict[str, float]:
    """The metrics at a moment.

    Args:
        previous: an earlier snapshot of the same attempt, which rates and means are taken since; without one
            there are counts and levels only.
        now: the moment.
    """
    found = {**_counts(now), **_levels(now), **_processing_times(now.group_seconds)}
    if previous is not None and now.seconds > previous.seconds:
        found |= _since(previous, now)
    return found


def has_learner(now: Snapshot) -> bool:
    """Whether somebody takes the groups: seen once the first one waits for it."""
    return now.consumed > 0 or now.learner_waiting > 0 or now.learner_busy_seconds > 0


def recorded(now: Snapshot) -> int:
    """Groups that have ended and left records: all but the cancelled."""
    return sum(now.groups.values()) - now.groups.get("cancelled", 0)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between the nearest ranks of sorted values, as numpy's default."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _counts(now: Snapshot) -> dict[str, float]:
    """What has been counted since the run began."""
    generated = sum(now.groups.get(status, 0) for status in ("completed", "stale", "filtered"))
    found: dict[str, float] = {
        "fully_async/count/current_param_version": now.version,
        "fully_async/count/total_generated_samples": generated,
        "fully_async/count/dropped_stale_samples": now.groups.get("stale", 0),
        "fully_async/partial/max_partial_span": now.max_partial_span,
        "response_length/max": now.longest_response,
        "rollout/written": now.written,
        "learner/consumed": now.consumed,
        **{f"rollout/groups/{status}": count for status, count in now.groups.items()},
        **{f"rollout/samples/{status}": count for status, count in now.samples.items()},
    }
    if now.reward_count:
        found["rollout/reward_mean"] = now.reward_sum / now.reward_count
    return found


def _levels(now: Snapshot) -> dict[str, float]:
    """What stands somewhere at this moment."""
    found: dict[str, float] = {
        "fully_async/monitor/active_tasks_size": now.in_flight,
        "fully_async/monitor/queue/pending_queue_size": now.backlog,
        "fully_async/monitor/queue/mq_queue_size": now.queued,
        "learner/waiting": now.learner_waiting,
    }
    for replica in now.replicas:
        found[f"replica/{replica.name}/in_flight"] = replica.in_flight
        found[f"replica/{replica.name}/version"] = replica.version
    return found


def _processing_times(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "fully_async/processing_time/avg": sum(ordered) / len(ordered),
        "fully_async/processing_time/max": ordered[-1],
        "fully_async/processing_time/min": ordered[0],
        "fully_async/processing_time/tp50": percentile(ordered, 0.50),
        "fully_async/processing_time/tp95": percentile(ordered, 0.95),
        "fully_async/processing_time/tp99": percentile(ordered, 0.99),
    }


def _since(previous: Snapshot, now: Snapshot) -> dict[str, float]:
    """Rates and means over the time between the two."""
    seconds = now.seconds - previous.seconds
    ended = recorded(now) - recorded(previous)
    partial = now.partial_groups - previous.partial_groups
    found = {
        "rollout/groups_per_second": ended / seconds,
        "fully_async/partial/total_partial_num": partial,
        **_replica_rates(previous.replicas, now.replicas, seconds),
        **_staleness(previous, now),
        **_ratio("fully_async/partial/partial_ratio", partial, ended),
        **_ratio(
            "critic/score/mean",
            now.reward_sum - previous.reward_sum,
            now.reward_count - previous.reward_count,
        ),
        **_ratio(
            "response_length/mean",
            now.response_tokens - previous.response_tokens,
            sum(now.samples.values()) - sum(previous.samples.values()),
        ),
    }
    if has_learner(now):
        busy = now.learner_busy_seconds - previous.learner_busy_seconds
        found["fully_async/trainer/idle_ratio"] = 1 - _share(busy, seconds)
    return found


def _replica_rates(
    before: Sequence[ReplicaSnapshot], after: Sequence[ReplicaSnapshot], seconds: float
) -> dict[str, float]:
    """How busy each rollouter was, and all together; of those that both snapshots have."""
    earlier = {replica.name: replica for replica in before}
    pairs = [(earlier[replica.name], replica) for replica in after if replica.name in earlier]
    if not pairs:
        return {}
    found: dict[str, float] = {}
    for old, new in pairs:
        found[f"replica/{new.name}/busy"] = _share(new.busy_seconds - old.busy_seconds, seconds)
        found[f"replica/{new.name}/tokens_per_second"] = (new.sampled_tokens - old.sampled_tokens) / seconds
    busy = sum(found[f"replica/{new.name}/busy"] for _, new in pairs) / len(pairs)
    prefilled = sum(new.prefilled_tokens - old.prefilled_tokens for old, new in pairs)
    return found | {
        "fully_async/rollouter/active_time": busy * seconds,
        "fully_async/rollouter/idle_ratio": 1 - busy,
        "rollout/tokens_per_second": sum(found[f"replica/{new.name}/tokens_per_second"] for _, new in pairs),
        "rollout/prefill_tokens_per_second": prefilled / seconds,
    }


def _staleness(previous: Snapshot, now: Snapshot) -> dict[str, float]:
    """Versions that the tokens were old that the learner has had since."""
    ages: Mapping[int, int] = now.ages - previous.ages
    if not ages:
        return {}
    mean = sum(age * tokens for age, tokens in ages.items()) / sum(ages.values())
    return {"staleness/mean": mean, "staleness/max": max(ages)}


def _share(part: float, whole: float) -> float:
    """``part / whole``, kept within 0 and 1: the two are read from clocks of different processes."""
    return min(1.0, max(0.0, part / whole))


def _ratio(name: str, total: float, count: int) -> dict[str, float]:
    return {name: total / count} if count else {}
