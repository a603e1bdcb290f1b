"""reasoning-gym tasks: reproducible prompts, settings from the command line, refusals with a mend."""

import json
from dataclasses import replace

import pytest

from asynckit.errors import DependencyError, InputError
from asynckit.rollout.config import PromptsConfig
from asynckit.rollout.prompting.prompts import load_prompts
from asynckit.rollout.prompting.reasoning_tasks import dataset_of

CONFIG = PromptsConfig(source="reasoning_gym:chain_sum", size=5, seed=3)


def test_prompts_are_reproducible_and_plain() -> None:
    """The same settings give the same prompts on every machine, and they can be recorded as JSON."""
    first, second = load_prompts(CONFIG), load_prompts(CONFIG)
    assert first == second
    assert len(first) == 5
    assert first != load_prompts(replace(CONFIG, seed=4))
    assert json.loads(json.dumps(first[2].extra)) == first[2].extra
    assert first[2].data_source == "reasoning_gym:chain_sum"


def test_the_entry_is_made_again_from_the_prompt() -> None:
    """Scoring needs the task's entry, which is not carried but made again."""
    for prompt in load_prompts(CONFIG):
        entry = dataset_of(prompt.extra)[prompt.extra["index"]]
        assert (entry["question"], entry["answer"]) == (prompt.chat()[0]["content"], prompt.ground_truth)


def test_questions_are_chat_messages_unless_asked_otherwise() -> None:
    """An instruct model gets its template; a base model, which has none, can get plain text."""
    asked = load_prompts(CONFIG)[0]
    assert asked.messages == ({"role": "user", "content": load_prompts(replace(CONFIG, chat=False))[0].text},)


def test_settings_are_read_as_json_where_they_parse() -> None:
    """Settings arrive as text from the command line and reach the task with their types; limit cuts."""
    task = {"min_terms": "2", "max_terms": "2", "allow_negation": "False"}
    prompts = load_prompts(replace(CONFIG, task=task, limit=2))
    assert len(prompts) == 2
    assert prompts[0].extra["settings"] == {"min_terms": 2, "max_terms": 2, "allow_negation": False}


def test_a_source_can_carry_its_own_settings() -> None:
    """Two tasks of a mix need different sizes and settings; those in a source's name go first."""
    source = "reasoning_gym:chain_sum?max_terms=2&size=3&seed=9"
    config = replace(CONFIG, source=source, task={"max_terms": "4", "min_terms": "2"})
    prompts = load_prompts(config)
    recipe = {"task": "chain_sum", "seed": 9, "size": 3, "settings": {"max_terms": 2, "min_terms": 2}}
    assert [prompt.extra for prompt in prompts] == [{**recipe, "index": index} for index in range(3)]
    assert prompts[0].data_source == "reasoning_gym:chain_sum"
    assert prompts[0].where == f"{source}[0]"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "'' is no setting: write name=value"),
        ("max_terms", "'max_terms' is no setting"),
        ("=2", "'=2' is no setting"),
        ("max_terms=2&max_terms=3", "max_terms is set twice"),
        ("max_term=2", "did you mean max_terms"),
        ("size=many", "size must be a whole number from 1 on, not 'many'"),
        ("size=0", "from 1 on, not 0"),
        ("seed=true", "seed must be a whole number from 0 on, not True"),
    ],
)
def test_wrong_settings_in_the_name_of_a_source_are_refused(query: str, message: str) -> None:
    """The error points at the source that has them."""
    source = f"reasoning_gym:chain_sum?{query}"
    with pytest.raises(InputError) as caught:
        load_prompts(replace(CONFIG, source=source))
    assert message in str(caught.value)
    assert caught.value.where == source


@pytest.mark.parametrize(
    ("name", "task", "place", "message"),
    [
        ("chainsum", {}, "reasoning_gym:chainsum", "did you mean chain_sum"),
        ("", {}, "reasoning_gym:", "no task ''"),
        ("chain_sum", {"max_term": "2"}, "prompts.task.max_term", "did you mean max_terms"),
        ("chain_sum", {"size": "2"}, "prompts.task.size", "use prompts.size"),
        ("chain_sum", {"max_terms": "many"}, "reasoning_gym:chain_sum", "cannot work with the settings"),
        (
            "spell_backward",
            {"min_word_len": "60", "max_word_len": "70"},
            "reasoning_gym:spell_backward",
            "empty",
        ),
        ("chain_sum", {"min_terms": "9", "max_terms": "1"}, "reasoning_gym:chain_sum", "max_terms must be"),
    ],
)
def test_wrong_tasks_and_settings_are_refused(
    name: str, task: dict[str, str], place: str, message: str
) -> None:
    """Errors of the task library reach the person as what they should change."""
    with pytest.raises(InputError, match=message) as caught:
        load_prompts(replace(CONFIG, source=f"reasoning_gym:{name}", task=task))
    assert caught.value.where == place


def test_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """reasoning-gym is an optional dependency."""
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(DependencyError, match=r"asynckit\[tasks\]"):
        load_prompts(replace(CONFIG, seed=99))
