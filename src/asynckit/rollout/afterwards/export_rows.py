"""Records in the shapes that trainers read: one plain function per trainer, from records to rows.

``docs/runs.md`` says where each trainer's code reads each field. Token ids, masks and logprobs are passed on
as they are; nothing is tokenized again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from asynckit.rollout.afterwards.conversation import split_messages
from asynckit.rollout.record import Trajectory

Row = dict[str, Any]

# slime has no status for what was thrown away after it had been generated.
_SLIME_STATUS = {"failed": "failed", "cancelled": "aborted"}


def trl_row(each: Trajectory) -> Row:
    """TRL's prompt-completion type, conversational, with the tokens that its SFTTrainer prefers."""
    prompt, completion = split_messages(each)
    return {
        "prompt": prompt,
        "completion": completion,
        "input_ids": [*each.prompt_ids, *each.response_ids],
        "completion_mask": [*[0] * len(each.prompt_ids), *each.response_mask],
        "completion_logprobs": each.logprobs,
        "reward": each.reward,
        "advantage": each.advantage,
        "ground_truth": as_text(each.ground_truth),
        "data_source": each.data_source,
        "group_id": each.group_id,
        "uid": each.uid,
    }


def slime_rows(group: Sequence[Trajectory], group_index: int, first_index: int) -> list[Row]:
    """Slime's ``Sample.to_dict()`` for each sample of a group."""
    return [
        _slime_row(each, group_index, first_index + place)
        for place, each in enumerate(sorted(group, key=lambda each: each.sample_index))
    ]


def _slime_row(each: Trajectory, group_index: int, index: int) -> Row:
    prompt, response = split_messages(each)
    ended = "truncated" if each.stop_reason == "length" else "completed"
    return {
        "group_index": group_index,
        "index": index,
        "prompt": prompt,
        "tokens": [*each.prompt_ids, *each.response_ids],
        "response": "".join(message["content"] for message in response if message["role"] == "assistant"),
        "response_length": len(each.response_ids),
        "label": as_text(each.ground_truth),
        "reward": each.reward,
        "loss_mask": each.response_mask,
        "weight_versions": [str(version) for *_, version in each.version_spans],
        "rollout_log_probs": each.logprobs,
        "status": _SLIME_STATUS.get(each.status, ended),
        "metadata": {"data_source": each.data_source, "group_id": each.group_id, "uid": each.uid},
    }


def verl_row(group: Sequence[Trajectory], index: int) -> Row:
    """A row of verl's RL Parquet: the group's prompt, with what its samples earned under ``extra_info``."""
    first = group[0]
    extra = first.extra
    given = extra.get("extra_info")
    model = extra.get("reward_model")
    rewards = [each.reward for each in group]
    known = [reward for reward in rewards if reward is not None]
    return {
        "data_source": first.data_source,
        "prompt": split_messages(first)[0],
        "ability": str(extra.get("ability") or ""),
        "reward_model": {
            "style": str(model.get("style") or "rule") if isinstance(model, Mapping) else "rule",
            "ground_truth": as_text(first.ground_truth),
        },
        "extra_info": {
            "split": "train",
            "index": index,
            **(given if isinstance(given, Mapping) else {}),
            "group_id": first.group_id,
            "rewards": rewards,
            "mean_reward": sum(known) / len(known) if known else None,
        },
    }


def as_text(value: Any) -> str | None:
    """A ground truth as the text that reward functions of trainers compare with; JSON for what is no text."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
