"""Prompts: every accepted row shape, and every refusal with its place."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import ConfigError, InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.prompts import Prompt, load_prompts, prompt_from_row

USER = [{"role": "user", "content": "2 + 3?"}]
VERL = {
    "data_source": "openai/gsm8k",
    "prompt": USER,
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "5"},
    "extra_info": {"index": 7},
}


def row(content: Any) -> Prompt:
    return prompt_from_row(content, index=0, where="f.jsonl:1", data_source="f.jsonl")


def write(folder: Path, *rows: Any) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(content) + "\n" for content in rows))
    return str(path)


def test_text_prompt_keeps_answer_and_other_columns() -> None:
    """The simplest row works: text, answer, and whatever else is there goes to extra."""
    prompt = row({"prompt": "2 + 3?", "answer": 5, "level": "easy"})
    assert (prompt.text, prompt.messages, prompt.ground_truth) == ("2 + 3?", None, 5)
    assert (prompt.extra, prompt.data_source, prompt.chat()) == ({"level": "easy"}, "f.jsonl", USER)


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_chat_messages_are_a_prompt_under_either_name(column: str) -> None:
    """Chat data sets name the column prompt (verl) or messages (most others)."""
    prompt = row({column: USER, "ground_truth": "5"})
    assert prompt.text is None
    assert prompt.chat() == USER
    assert prompt.ground_truth == "5"


def test_verl_row_is_read_as_verl_reads_it() -> None:
    """A data set prepared for verl needs no conversion, and nothing of it is lost."""
    prompt = row(VERL)
    assert (prompt.ground_truth, prompt.data_source) == ("5", "openai/gsm8k")
    assert prompt.extra == {"ability": "math", "reward_model": {"style": "rule"}, "extra_info": {"index": 7}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected an object, found a list"),
        ({"question": "?"}, "no prompt"),
        ({"prompt": None}, "no prompt"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [{"role": "user", "content": " "}]}, "the prompt is empty"),
        ({"prompt": 3}, "prompt must be text or a list of messages, not a number"),
        ({"messages": "hi"}, "messages must be a list of messages, not text"),
        ({"prompt": "hi", "messages": USER}, "both prompt and messages"),
        ({"prompt": ["hi"]}, r"prompt\[0\] must be an object"),
        ({"prompt": [{"role": "usr", "content": "hi"}]}, "has the role 'usr'"),
        ({"prompt": [{"role": ["user"], "content": "hi"}]}, "has the role"),
        ({"prompt": [{"role": "user"}]}, "must have text as content, not null"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "not a list"),
        ({"prompt": [{**USER[0], "name": "Ann"}]}, "also has name"),
        ({"prompt": [*USER, {"role": "assistant", "content": "5"}]}, "nothing to answer"),
        ({"prompt": "hi", "answer": "5", "ground_truth": "6"}, "answer and ground_truth contradict"),
        ({"prompt": "hi", "answer": 1, "ground_truth": True}, "contradict"),
        ({**VERL, "answer": "6"}, r"answer and reward_model\.ground_truth contradict"),
        ({"prompt": "hi", "data_source": 3}, "data_source must be text"),
        ({"prompt": "hi", "answer": float("nan")}, "answer holds nan"),
        ({"prompt": "hi", "x": [float("-inf")]}, "x holds -inf"),
        ({"prompt": "hi \ud800"}, "surrogate"),
        ({"prompt": "hi", "image": b"\x00"}, "image holds bytes"),
    ],
)
def test_unusable_row_is_refused_with_its_place(content: Any, message: str) -> None:
    """Every wrong shape is named, at its line, before anything is generated."""
    with pytest.raises(InputError, match=message) as caught:
        row(content)
    assert caught.value.where == "f.jsonl:1"


def test_equal_answers_under_two_names_are_no_contradiction() -> None:
    """Data sets often carry the answer twice; only a difference is an error."""
    assert row({"prompt": "hi", "answer": "5", "ground_truth": "5"}).ground_truth == "5"


def test_missing_prompt_names_the_columns_that_are_there() -> None:
    """A person with a column `question` sees at once what to rename."""
    with pytest.raises(InputError, match="columns found: question, answer"):
        row({"question": "?", "answer": "5"})


def test_a_bad_last_line_is_found_before_anything_is_returned(tmp_path: Path) -> None:
    """Generation must not start on a file that breaks at its end."""
    with pytest.raises(InputError) as caught:
        load_prompts(PromptsConfig(source=write(tmp_path, {"prompt": "a"}, {"prompt": ""})))
    assert caught.value.where.endswith("prompts.jsonl:2")


def test_limit_and_index(tmp_path: Path) -> None:
    """Indices count from 0 and the limit cuts."""
    source = write(tmp_path, *({"prompt": text} for text in "abc"))
    assert [(p.index, p.text) for p in load_prompts(PromptsConfig(source=source, limit=2))] == [
        (0, "a"),
        (1, "b"),
    ]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    """A run over nothing would look like a success."""
    with pytest.raises(InputError, match="no prompts"):
        load_prompts(PromptsConfig(source=write(tmp_path)))


def test_system_message_goes_before_every_prompt(tmp_path: Path) -> None:
    """With a system message a text prompt becomes the user's turn after it."""
    source = write(tmp_path, {"prompt": "2 + 3?"}, {"prompt": USER})
    prompts = load_prompts(PromptsConfig(source=source, system="Be brief."))
    assert [prompt.chat() for prompt in prompts] == [[{"role": "system", "content": "Be brief."}, *USER]] * 2
    assert [prompt.text for prompt in prompts] == [None, None]


def test_a_second_system_message_is_refused(tmp_path: Path) -> None:
    """Two system messages break chat templates, and choosing one silently would be a guess."""
    source = write(tmp_path, {"prompt": [{"role": "system", "content": "x"}, *USER]})
    with pytest.raises(InputError, match="system message of its own"):
        load_prompts(PromptsConfig(source=source, system="Be brief."))


def numbered(folder: Path, name: str, count: int) -> str:
    """A file of prompts name0, name1, ..."""
    (folder / name).mkdir()
    return write(folder / name, *({"prompt": f"{name}{number}"} for number in range(count)))


def texts(config: PromptsConfig) -> list[str | None]:
    return [prompt.text for prompt in load_prompts(config)]


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    """Twice the weight is twice as often, until a source has run out; nothing is lost, places are counted."""
    a, b = numbered(tmp_path, "a", 4), numbered(tmp_path, "b", 4)
    prompts = load_prompts(PromptsConfig(sources={a: 2.0, b: 1.0}))
    assert [prompt.text for prompt in prompts] == ["a0", "b0", "a1", "a2", "b1", "a3", "b2", "b3"]
    assert [prompt.index for prompt in prompts] == list(range(8))
    assert [prompt.source for prompt in prompts[:2]] == [a, b]


def test_limit_counts_the_mix_and_not_each_source(tmp_path: Path) -> None:
    """A limit of N means N prompts."""
    sources = {numbered(tmp_path, "a", 4): 1.0, numbered(tmp_path, "b", 4): 1.0}
    assert texts(PromptsConfig(sources=sources, limit=3)) == ["a0", "b0", "a1"]


def test_a_weight_of_zero_leaves_a_source_out(tmp_path: Path) -> None:
    """Entries of a configuration file can only be overridden, so there has to be a way to take one away."""
    a, b = numbered(tmp_path, "a", 1), numbered(tmp_path, "b", 1)
    assert texts(PromptsConfig(sources={a: 0.0, b: 3.0})) == ["b0"]
    assert texts(PromptsConfig(source=a, sources={b: 0.0})) == ["a0"]
    with pytest.raises(ConfigError, match="leaves out every source"):
        load_prompts(PromptsConfig(sources={a: 0.0}))


def test_source_and_sources_must_not_contradict_each_other(tmp_path: Path) -> None:
    """Neither wins silently."""
    a, b = numbered(tmp_path, "a", 1), numbered(tmp_path, "b", 1)
    assert texts(PromptsConfig(source=a, sources={a: 2.0})) == ["a0"]
    with pytest.raises(ConfigError, match=r"prompts\.source .* names"):
        load_prompts(PromptsConfig(source=a, sources={b: 1.0}))


def test_an_empty_source_in_a_mix_is_refused(tmp_path: Path) -> None:
    """The weights of the others would mean something else than what was asked for."""
    a, b = numbered(tmp_path, "a", 1), numbered(tmp_path, "b", 0)
    with pytest.raises(InputError, match="no prompts") as caught:
        load_prompts(PromptsConfig(sources={a: 1.0, b: 1.0}))
    assert caught.value.where == b


def test_without_a_source_there_are_sums() -> None:
    """`asynckit rollout` alone tries the installation."""
    assert {prompt.data_source for prompt in load_prompts(PromptsConfig())} == {"reasoning_gym:chain_sum"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(text=st.text().filter(str.strip), answer=JSON, note=JSON)
def test_prompts_survive_pickle_and_json(text: str, answer: Any, note: Any) -> None:
    """Prompts travel to Ray workers and into records unchanged."""
    prompt = row({"prompt": text, "answer": answer, "note": note})
    assert pickle.loads(pickle.dumps(prompt)) == prompt  # noqa: S301  # our own bytes
    assert json.loads(json.dumps(prompt.extra)) == {"note": note}
    assert prompt.ground_truth == answer
