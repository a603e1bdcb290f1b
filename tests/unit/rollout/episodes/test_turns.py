"""Ids between turns: exactly what the template would put there, and never a token sampled twice."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import save_tokenizer

from asynckit.engine.completion import Completion
from asynckit.engine.request import Finish
from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model
from asynckit.models.tokenizer import load_tokenizer
from asynckit.rollout.episodes.environments import Reply
from asynckit.rollout.episodes.turns import TurnTemplate, text_of, turn_seed

END = "<|end|>"
# Zephyr's way: roles that it doesn't know are left out without a word.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] in ['user', 'assistant'] %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny models' tokenizer."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def smollm() -> Any:
    """The embedded model's tokenizer."""
    model = ModelConfig()
    return load_tokenizer(resolve_model(model), model)


def templated(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The ids of a conversation up to where the assistant speaks next."""
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def with_template(tokenizer: Any, template: str) -> Any:
    """A copy of a tokenizer with another template."""
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def check_turns_join(tokenizer: Any, said: str, replied: str, role: str) -> None:
    """Prompt, sampled turn and what is in between are the ids of the whole conversation."""
    question = {"role": "user", "content": "What is 12 times 7?"}
    prompt = templated(tokenizer, [question])
    sampled = [*tokenizer(said, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    message, between = TurnTemplate(tokenizer).lay_out(Reply(replied, role), sampled[-1])
    assert message == {"role": role, "content": replied}
    whole = templated(tokenizer, [question, {"role": "assistant", "content": said}, message])
    assert prompt + sampled + between == whole


@pytest.mark.parametrize("role", ["tool", "user"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(said=st.text(st.characters(codec="utf-8"), max_size=20), replied=st.text(st.characters(codec="utf-8")))
def test_turns_join_to_what_the_template_makes_of_the_conversation(
    tiny: Any, role: str, said: str, replied: str
) -> None:
    """A learner that lays the conversation out itself gets the ids that were sampled from."""
    check_turns_join(tiny, said, replied, role)


@pytest.mark.embedded
@pytest.mark.parametrize("role", ["tool", "user"])
@pytest.mark.parametrize("said", ["", "<tool_call>12*7</tool_call>", "Let me see:\n\n  12 * 7\n"])
def test_turns_of_the_embedded_model_join(smollm: Any, said: str, role: str) -> None:
    """The same with a template from the wild, which begins with a system message of its own."""
    check_turns_join(smollm, said, "84", role)
    assert TurnTemplate(smollm).lay_out(Reply("84"), 0)[0]["role"] == "tool"


def test_a_turn_that_ended_otherwise_is_closed_by_the_template(tiny: Any) -> None:
    """After a stop string or another end token the closing token is there too, unsampled."""
    template = TurnTemplate(tiny)
    end = tiny.convert_tokens_to_ids(END)
    _, after_end = template.lay_out(Reply("84", "user"), end)
    _, after_other = template.lay_out(Reply("84", "user"), end + 1)
    assert after_other == [end, *after_end]
    assert tiny.decode(after_end) == "<|user|>84<|end|><|assistant|>"


def test_closing_tokens_in_the_reply_stay_in_it(tiny: Any) -> None:
    """Only the end of the assistant's own turn is left out."""
    _, ids = TurnTemplate(tiny).lay_out(Reply(END, "tool"), tiny.convert_tokens_to_ids(END))
    assert tiny.decode(ids) == f"<|tool|>{END}{END}<|assistant|>"


def test_text_alone_gets_a_role_that_the_template_knows(tiny: Any) -> None:
    """A template without tools gets the reply as the user's; a role that it would drop is refused."""
    forgetful = TurnTemplate(with_template(tiny, FORGETFUL))
    message, ids = forgetful.lay_out(Reply("84"), 0)
    assert message == {"role": "user", "content": "84"}
    assert tiny.decode(ids).startswith("<|user|>84")
    with pytest.raises(InputError, match="no role 'tool'"):
        forgetful.lay_out(Reply("84", "tool"), 0)


def test_a_template_for_one_turn_is_refused(tiny: Any) -> None:
    """Nothing is generated where the conversation could not go on."""
    with pytest.raises(InputError, match="no place for a message"):
        TurnTemplate(with_template(tiny, "{{ messages[0]['content'] }}"))
    with pytest.raises(InputError, match="no place for a message"):
        TurnTemplate(with_template(tiny, "{{ raise_exception('one turn only') }}"))


def test_a_stop_string_is_kept_out_of_the_text(tiny: Any) -> None:
    """The environment hears what the record's message says."""
    ids = tiny("12*7 answer: 4", add_special_tokens=False)["input_ids"]
    stopped = Completion(token_ids=ids, finish=Finish.STOP)
    assert text_of(tiny, stopped, ("answer",)) == "12*7 "
    assert text_of(tiny, Completion(token_ids=ids, finish=Finish.LENGTH), ("answer",)) == "12*7 answer: 4"


def test_seeds_tell_samples_and_turns_apart() -> None:
    """Two samples that say the same go different ways afterwards, and the same way in another run."""
    seeds = {turn_seed(7, index, turn) for index in range(8) for turn in range(8)}
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert turn_seed(7, 1, 2) == turn_seed(7, 1, 2)
