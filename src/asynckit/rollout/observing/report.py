"""``report.html``: a run's plots, settings, samples and errors in one file that needs nothing else.

It is made from what is on the disk alone, so it can be made again at any time, also of a run that was killed.
What a model wrote is text on this page and nothing else: it is escaped, control characters are made visible,
and the page's own policy forbids scripts and every connection.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asynckit.charts import histogram, lines, moving_mean, strips
from asynckit.cluster.config import RayConfig
from asynckit.disk import whole_file
from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.page import page, table, visible
from asynckit.rollout.config import (
    AsyncTrainingConfig,
    LearnerConfig,
    PromptsConfig,
    RewardConfig,
    RolloutConfig,
)
from asynckit.rollout.observing.report_numbers import (
    DRAWN,
    Example,
    Samples,
    Timeline,
    ledger_states,
    mapping_in,
    read_json,
    read_samples,
    read_timeline,
)
from asynckit.rollout.run_directory import RunDirectory

NAME = "report.html"
SECTIONS = {
    "model": ModelConfig,
    "engine": EngineConfig,
    "sampling": SamplingParams,
    "prompts": PromptsConfig,
    "reward": RewardConfig,
    "rollout": RolloutConfig,
    "async_training": AsyncTrainingConfig,
    "learner": LearnerConfig,
    "simulated": SimulatedConfig,
    "ray": RayConfig,
}
# Facts that the summary has and the trajectories don't.
_FROM_SUMMARY = (
    "response_tokens",
    "tokens_per_second",
    "response_length_p50",
    "response_length_p95",
    "idle_ratio",
    "seconds",
)
_ERRORS = 20


def write_report(folder: Path) -> Path:
    """Write a run's ``report.html``, in the place of an earlier one; returns its path.

    Raises:
        InputError: there is no run, or one of its files is damaged; says which.
        WorkFailed: the disk refuses.
    """
    try:
        body = _body(folder)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(error.filename or folder)) from error
    path = folder / NAME
    with whole_file(path) as file:
        file.write(page(folder.absolute().name, body).encode("utf-8", "replace"))
    return path


def _body(folder: Path) -> Sequence[str]:
    config = read_json(RunDirectory(folder).config_path)
    if config is None:
        raise InputError("there is no run", where=str(folder), mend="name the folder of one: runs/NAME")
    settings = mapping_in(config, "config", RunDirectory(folder).config_path)
    samples = read_samples(folder)
    return (
        f"<h1>{visible(folder.absolute().name)}</h1>",
        table((), _facts(folder, samples)),
        "<h2>Over time</h2>",
        *_plots(samples, read_timeline(folder)),
        "<h2>Settings that are not the defaults</h2>",
        table(("setting", "value"), changed_settings(settings)),
        "<h2>Errors</h2>",
        _errors(samples.errors),
        "<h2>Samples</h2>",
        _examples("Highest rewards", samples.best),
        _examples("Lowest rewards", samples.worst),
        _examples("Longest responses", samples.longest),
    )


def changed_settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of a ``config.json`` that are not the defaults, as dotted keys and JSON."""
    found = []
    for section, kind in SECTIONS.items():
        defaults = json.loads(json.dumps(asdict(kind())))
        for name, value in mapping_in(config, section, Path("config.json")).items():
            if name not in defaults or value != defaults[name]:
                found.append((f"{section}.{name}", json.dumps(value, ensure_ascii=False)))
    return found


def _facts(folder: Path, samples: Samples) -> list[tuple[str, str]]:
    """What is known of the run as a whole: from its summary, or of one that has none, from its ledger."""
    summary = read_json(folder / "summary.json")
    facts = [("samples", _counted(samples.statuses))]
    if samples.reward_count:
        facts.append(("mean reward", f"{samples.reward_sum / samples.reward_count:.4f}"))
    if summary is None:
        return [
            ("status", "not ended, or killed: there is no summary.json"),
            ("groups", _counted(ledger_states(folder))),
            *facts,
        ]
    groups = mapping_in(summary, "groups", folder / "summary.json")
    return [
        ("status", str(summary.get("status"))),
        ("groups", f"{_counted(groups)} of {summary.get('submitted')}"),
        *facts,
        *((name.replace("_", " "), _shown(summary[name])) for name in _FROM_SUMMARY if name in summary),
    ]


def _plots(samples: Samples, timeline: Timeline) -> list[str]:
    seconds = timeline.seconds.means
    tokens, queued, waiting = (
        timeline.series[name].means if name in timeline.series else [None] * len(seconds) for name in DRAWN
    )
    rewards = samples.rewards
    groups = [min((at + 1) * rewards.width, rewards.seen) for at in range(len(rewards.means))]
    steady = moving_mean(rewards.means, max(1, len(rewards.means) // 20))
    each = "each group" if rewards.width == 1 else f"mean of {rewards.width} groups"
    return [
        lines(
            "Reward",
            "groups, as they ended",
            groups,
            [(each, rewards.means), ("moving mean", steady)],
            dots=True,
        ),
        lines("Sampled tokens per second", "seconds", seconds, [("tokens per second", tokens)]),
        lines(
            "Finished groups that wait",
            "seconds",
            seconds,
            [("in the queue", queued), ("for the learner", waiting)],
        ),
        strips(
            "How busy everybody was",
            seconds,
            [(name, series.means) for name, series in timeline.busy.items()],
        ),
        histogram(
            "Length of responses",
            "tokens",
            [("ended by themselves", samples.ended), ("cut at the limit", samples.cut)],
        ),
        histogram(
            "Staleness: versions that tokens were old when the learner had them",
            "versions",
            [("tokens", samples.ages)],
            start=0,
        ),
    ]


def _errors(errors: Counter[str]) -> str:
    if not errors:
        return "<p>None.</p>"
    most = errors.most_common(_ERRORS)
    rest = len(errors) - len(most)
    more = f"<p>{rest} other errors are not shown.</p>" if rest else ""
    return table(("samples", "error"), [(f"{count:,}", error) for error, count in most]) + more


def _examples(title: str, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    return f"<h3>{title}</h3>" + "".join(map(_example, examples))


def _example(example: Example) -> str:
    reward = "no reward" if example.reward is None else f"reward {example.reward:.4g}"
    heading = f"{reward}, {example.tokens:,} tokens, {example.status}"
    place = f"{example.group_id}, sample {example.sample_index}"
    return (
        f"<details><summary>{visible(heading)} <small>{visible(place)}</small></summary>"
        f"<h4>prompt</h4>{_quote(example.prompt)}<h4>response</h4>{_quote(example.response)}"
        f"<h4>ground truth</h4>{_quote(example.ground_truth)}</details>"
    )


def _quote(text: str) -> str:
    """Somebody else's words: they keep their lines, and their writing direction to themselves."""
    return f'<pre dir="auto">{visible(text)}</pre>' if text else "<p>empty</p>"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.0f}"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
