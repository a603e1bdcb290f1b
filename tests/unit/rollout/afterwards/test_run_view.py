"""Groups and samples as a person reads them."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import N, make_run
from rich.console import Console

from asynckit.errors import InputError
from asynckit.rollout.afterwards.conversation import split_messages
from asynckit.rollout.afterwards.run_reader import Run, find_run
from asynckit.rollout.afterwards.run_view import Choice, find_group, group_rows, group_samples
from asynckit.rollout.afterwards.transcript import groups_table, print_samples
from asynckit.rollout.record import EngineInfo, Trajectory


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Six groups whose responses and rewards grow from group to group, two of them in the ledger alone."""

    def change(each: Trajectory) -> Trajectory:
        place = int(each.ground_truth)
        return replace(each, reward=float(place), advantage=0.0)

    made = make_run(tmp_path / "run", groups=7, change=change, unwritten=2, owed=1, summary=False)
    return find_run(str(made.path))


def test_groups_are_sorted_and_limited(run: Run) -> None:
    """The best first, the best last, or as they were written."""
    assert [row.mean_reward for row in group_rows(run, Choice())] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [row.mean_reward for row in group_rows(run, Choice(limit=2))] == [1.0, 2.0]
    assert [row.mean_reward for row in group_rows(run, Choice(limit=2, reverse=True))] == [6.0, 5.0]
    assert [row.mean_reward for row in group_rows(run, Choice(sort="reward", limit=2))] == [6.0, 5.0]
    worst = Choice(sort="reward", reverse=True, limit=1)
    assert [row.mean_reward for row in group_rows(run, worst)] == [1.0]
    assert [row.file for row in group_rows(run, Choice())][-2:] == ["ledger.sqlite"] * 2


def test_only_samples_of_a_status_count(run: Run) -> None:
    """The numbers of a group are those of the samples that were asked for."""
    rows = group_rows(run, Choice(status="truncated"))
    assert [row.statuses for row in rows] == [{"truncated": 1}] * 6
    assert rows[0].mean_length == 9
    assert group_rows(run, Choice(status="stale")) == []


def test_a_group_is_found_by_the_beginning_of_its_id(run: Run) -> None:
    """In a part and in the ledger; several, none and owed ones are told apart."""
    ids = [row.id for row in group_rows(run, Choice())]
    for group_id in ids:
        assert find_group(run, group_id).id == find_group(run, group_id[:12]).id == group_id
    with pytest.raises(InputError, match="7 groups begin with"):
        find_group(run, "")
    typo = ("0" if ids[0][0] != "0" else "1") + ids[0][1:8]
    with pytest.raises(InputError, match="no group begins") as caught:
        find_group(run, typo)
    assert caught.value.mend == f"did you mean {ids[0][:8]}?"
    with run.ledger() as ledger:
        (owed,) = {entry.id for entry in ledger.entries()} - set(ids)
    with pytest.raises(InputError, match="has no records"):
        find_group(run, owed)


def test_samples_are_chosen_and_sorted(run: Run) -> None:
    """By index, by status, by length."""
    group = find_group(run, group_rows(run, Choice())[0].id)
    assert [each.sample_index for each in group_samples(group, Choice(), None)] == list(range(N))
    assert [each.sample_index for each in group_samples(group, Choice(), 2)] == [2]
    longest = group_samples(group, Choice(sort="length", limit=1), None)
    assert [each.sample_index for each in longest] == [N - 1]
    with pytest.raises(InputError, match="no sample 9") as caught:
        group_samples(group, Choice(), 9)
    assert caught.value.mend == "it has 0, 1, 2, 3"


HOSTILE = "[red]no[/red] [/]\n[assistant]\n\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202etxt \ud83d :smile:"


def hostile() -> Trajectory:
    return Trajectory(
        uid="\x1b[31mu",
        group_id="g[bold]",
        sample_index=0,
        status="failed",
        messages=[{"role": "user\x1b[1m", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}],
        data_source=HOSTILE,
        engine=EngineInfo("", "", ""),
        stop_reason=HOSTILE,
        ground_truth={"a": HOSTILE},
        error=HOSTILE,
        reward_components={HOSTILE: 1.0},
        reward=1.0,
    )


def shown(*, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None, legacy_windows=False)
    print_samples([hostile()], console)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_a_model_wrote_is_obeyed(terminal: bool) -> None:
    """No escape sequence, no markup, no carriage return; and all of it can be read."""
    text = shown(terminal=terminal)
    assert not {"\x07", "\x9b", "\r", "\u202e", "\ud83d"} & set(text)
    assert "\x1b" not in text
    assert "[red]no[/red] [/]" in text
    assert r"\x1b]0;owned\x07" in text
    assert ":smile:" in text


def test_no_message_can_pass_for_another() -> None:
    """Where there are no panels, what is not indented was written by asynckit."""
    lines = shown(terminal=False).split("\n")
    assert [line for line in lines if line.startswith("[")] == [r"[user\x1b[1m]", "[assistant]"]
    assert "  [assistant]" in lines


def test_the_table_of_groups_is_as_harmless(tmp_path: Path) -> None:
    """Prompts are shown in it."""

    def change(each: Trajectory) -> Trajectory:
        return replace(each, messages=[{"role": "user", "content": "[red]\x1b[2J"}, each.messages[-1]])

    run = find_run(str(make_run(tmp_path / "run", groups=1, change=change).path))
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(groups_table(group_rows(run, Choice()), 1))
    assert r"[red]\x1b[2J" in capture.get()


def test_the_response_begins_where_the_prompt_ends() -> None:
    """Examples in the prompt are no response; tool calls are part of one; a failed sample may have none."""
    roles = ("user", "assistant", "user", "assistant", "tool", "assistant")
    messages = [{"role": role, "content": ""} for role in roles]
    record = replace(hostile(), messages=messages, response_ids=[1], turns=2)
    assert [len(part) for part in split_messages(record)] == [3, 3]
    assert [len(part) for part in split_messages(replace(record, turns=1))] == [5, 1]
    assert [
        len(part) for part in split_messages(replace(record, messages=messages[:3], response_ids=[]))
    ] == [3, 0]
