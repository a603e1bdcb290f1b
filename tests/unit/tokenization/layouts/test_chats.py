"""Loss masks of chats are right, or the chat is refused."""

from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import (
    CHATML,
    DROPS_REASONING,
    INST,
    MARKED,
    MARKED_INST,
    TOOLS,
    chat_tokenizer,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tokenizers import Pair, config_of
from reference_encoding import reference_encode

from asynckit.errors import ConfigError
from asynckit.models import embedded
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.layout import layout_for
from asynckit.tokenization.records import LaidOut

Chat = list[dict[str, Any]]
TEXTS = st.text("ab cdehilnorstuw.,!?'\n\té世🙂0", max_size=12)
CHATS = st.builds(
    lambda system, turns: [
        *([{"role": "system", "content": system}] if system else []),
        *(
            message
            for asked, said in turns
            for message in ({"role": "user", "content": asked}, {"role": "assistant", "content": said})
        ),
    ],
    st.one_of(st.none(), TEXTS),
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
)
ASKED: Chat = [{"role": "user", "content": "the answer"}]
ANSWERED: Chat = [*ASKED, {"role": "assistant", "content": "forty two"}]
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def laid_out(tokenizer: LightTokenizer, *columns: list[Any], **chosen: Any) -> LaidOut:
    config = TokenizationConfig(mode="chat", **chosen)
    return layout_for(config, tokenizer, reference_encode(tokenizer)).lay_out(columns)


def learned(tokenizer: LightTokenizer, laid: LaidOut, row: int = 0) -> list[str]:
    """The texts of the unbroken stretches whose mask is 1."""
    assert laid.loss_mask is not None
    start, end = laid.tokens.offsets[row : row + 2].tolist()
    stretches: list[list[int]] = [[]]
    for id_, is_learned in zip(
        laid.tokens.values[start:end].tolist(), laid.loss_mask[start:end].tolist(), strict=True
    ):
        if is_learned:
            stretches[-1].append(id_)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


def refusal(tokenizer: LightTokenizer, *columns: list[Any], **chosen: Any) -> str:
    laid = laid_out(tokenizer, *columns, **chosen)
    assert laid.kept.tolist() == []
    assert laid.loss_mask is not None
    assert len(laid.loss_mask) == 0
    return laid.refused[0][1]


@pytest.fixture(scope="module", params=["byte-level", "byte-fallback", "metaspace"])
def marked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Tokenizers whose template marks the assistant's turns."""
    return chat_tokenizer(request.param, MARKED, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", params=["byte-fallback", "byte-level"])
def inst(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The same for a template that writes no header before an answer."""
    return chat_tokenizer(request.param, MARKED_INST, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> LightTokenizer:
    """A tokenizer with the most common kind of template, without marks."""
    return chat_tokenizer("byte-fallback", CHATML, tmp_path_factory.mktemp("tokenizer")).light


def rows_and_masks(laid: LaidOut) -> list[tuple[list[int], list[int]]]:
    assert laid.loss_mask is not None
    bounds = zip(laid.tokens.offsets, laid.tokens.offsets[1:], strict=False)
    return [(laid.tokens.values[a:b].tolist(), laid.loss_mask[a:b].tolist()) for a, b in bounds]


def transformers_way(whole: Any, chat: Chat) -> tuple[list[int], list[int]]:
    found = whole.apply_chat_template(
        chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return found["input_ids"], found["assistant_masks"]


@EXAMPLES
@given(st.lists(CHATS, min_size=1, max_size=4))
def test_marked_turns_have_transformers_masks(marked: Pair, chats: list[Chat]) -> None:
    """Ids and masks as ``return_assistant_tokens_mask=True`` gives them, which TRL trains with."""
    laid = laid_out(marked.light, chats)
    assert laid.refused == []
    assert rows_and_masks(laid) == [transformers_way(marked.whole, chat) for chat in chats]


@EXAMPLES
@given(st.lists(CHATS, min_size=1, max_size=4))
def test_marked_turns_without_headers_have_them_too(inst: Pair, chats: list[Chat]) -> None:
    """Where the assistant's first token may begin with the space after the prompt."""
    laid = laid_out(inst.light, chats)
    assert laid.refused == []
    assert rows_and_masks(laid) == [transformers_way(inst.whole, chat) for chat in chats]


@pytest.fixture(scope="module", params=[(CHATML, MARKED), (INST, MARKED_INST)], ids=["headers", "no headers"])
def unmarked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A light tokenizer whose template marks nothing, and transformers' whose template does."""
    folder = tmp_path_factory.mktemp("tokenizer")
    plain, with_marks = (chat_tokenizer("byte-fallback", template, folder) for template in request.param)
    return Pair(plain.light, with_marks.whole)


@EXAMPLES
@given(CHATS)
def test_prefixes_find_what_a_marked_template_says(unmarked: Pair, chat: Chat) -> None:
    """Content and end-of-turn token count, the line break after them doesn't."""
    laid = laid_out(unmarked.light, [chat])
    if laid.refused:
        assert "a token stands on both sides" in laid.refused[0][1]
    else:
        assert rows_and_masks(laid) == [transformers_way(unmarked.whole, chat)]


@pytest.mark.embedded
@pytest.mark.skipif(embedded.find_gguf() is None, reason="the embedded model is not installed")
def test_the_embedded_models_answers_are_learned_with_their_ends(tmp_path: Path) -> None:
    """Its template marks nothing, and ends each turn with a line break that it never has to say."""
    light = LightTokenizer.load(config_of("embedded", tmp_path))
    laid = laid_out(light, [[*ANSWERED, *ASKED, {"role": "assistant", "content": "42\n"}]])
    assert learned(light, laid) == ["forty two<|im_end|>", "42\n<|im_end|>"]


def test_a_chat_of_several_turns_has_a_stretch_for_each(chatml: LightTokenizer) -> None:
    """What the user says in between is not learned."""
    laid = laid_out(chatml, [[*ANSWERED, *ASKED, *ANSWERED[1:], *ASKED]])
    assert learned(chatml, laid) == ["forty two<|im_end|>"] * 2


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ([], "an empty one"),
        (["hello"], "message 0 is no object with a role"),
        ([{"content": "hello"}], "message 0 is no object with a role"),
        ([*ASKED, {"role": "assistant", "content": 42}], "the content of message 1 is no text"),
        (ASKED, "the loss mask would be all zeros"),
        (ANSWERED[1:], "the chat begins with the assistant"),
        ([*ASKED, {"role": "assistant"}], "the chat template can't lay it out"),
        (
            [*ANSWERED[:1], {**ANSWERED[1], "tool_calls": [{"name": "f"}]}],
            "leaves out tool_calls of message 1",
        ),
        ([*ANSWERED[:1], {**ANSWERED[1], "thinking": "hm"}], "leaves out thinking of message 1"),
    ],
)
def test_what_would_be_learned_wrongly_is_refused(chatml: LightTokenizer, chat: Any, reason: str) -> None:
    """Each with what is wrong with it."""
    assert reason in refusal(chatml, [chat])


def test_one_refused_chat_does_not_keep_the_others_out(chatml: LightTokenizer) -> None:
    """Their indices in the batch are those of the input."""
    laid = laid_out(chatml, [ASKED, ANSWERED, [], ANSWERED])
    assert laid.kept.tolist() == [1, 3]
    assert [index for index, _ in laid.refused] == [0, 2]
    assert [learned(chatml, laid, row) for row in (0, 1)] == [["forty two<|im_end|>"]] * 2


def test_reasoning_that_the_template_drops_later_is_refused(tmp_path: Path) -> None:
    """As of the last turn it is learned; what an earlier turn looked like to the model is gone."""
    light = chat_tokenizer("byte-fallback", DROPS_REASONING, tmp_path).light
    thought: Chat = [*ASKED, {**ANSWERED[1], "reasoning_content": "hm"}]
    assert learned(light, laid_out(light, [thought])) == ["<think>hm</think>forty two<|im_end|>"]
    assert "message 1 otherwise once the chat goes on" in refusal(light, [[*thought, *ANSWERED]])


def test_a_token_on_a_border_is_refused_unless_the_template_marks_it(tmp_path: Path) -> None:
    """A model that is asked to answer never sees half of it; transformers counts it where it is marked."""
    text = (
        "{% for m in messages %}{% if m.role == 'assistant' %} the {{ m.content }}{% else %}{{ m.content }}:"
    )
    rest = "{% endif %}{% endfor %}{% if add_generation_prompt %} t{% endif %}"
    light = chat_tokenizer("byte-fallback", text + rest, tmp_path).light
    assert "a token stands on both sides" in refusal(light, [ANSWERED])
    text = text.replace(" the {{ m.content }}", " t{% generation %}he{{ m.content }}{% endgeneration %}")
    pair = chat_tokenizer("byte-fallback", text + rest, tmp_path)
    laid = laid_out(pair.light, [ANSWERED])
    assert learned(pair.light, laid)[0].strip().startswith("the")
    assert rows_and_masks(laid) == [transformers_way(pair.whole, ANSWERED)]


def test_characters_of_several_tokens_count_whole(tmp_path: Path) -> None:
    """Transformers leaves all but the first token of a turn's last character out."""
    template = MARKED.replace(" + '<|im_end|>' }}{% endgen", " }}{% endgen")
    pair = chat_tokenizer("byte-level", template, tmp_path)
    laid = laid_out(pair.light, [[*ASKED, {"role": "assistant", "content": "世"}]])
    assert learned(pair.light, laid) == ["世"]
    _, mask = transformers_way(pair.whole, [*ASKED, {"role": "assistant", "content": "世"}])
    assert sum(mask) == 1


def test_a_turn_that_a_macro_makes_is_checked(tmp_path: Path) -> None:
    """Transformers takes it to begin too early when other text is put before what the macro returned."""
    macro = "{% macro say(text) %}{%- generation -%} {{ text }}<|im_end|>{% endgeneration %}{% endmacro %}"
    rest = "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    turn = "{% for m in messages %}{% if m.role == 'assistant' %}"
    right = chat_tokenizer("byte-fallback", macro + turn + "<s>{{ say(m.content) }}" + rest, tmp_path).light
    assert learned(right, laid_out(right, [ANSWERED])) == ["forty two<|im_end|>"]
    wrong = chat_tokenizer(
        "byte-fallback", macro + turn + "{{ '<s>' + say(m.content) }}" + rest, tmp_path
    ).light
    assert "begin can't be told" in refusal(wrong, [ANSWERED])


def test_lists_that_a_template_would_print_are_refused(tmp_path: Path) -> None:
    """A template that knows content parts is fine, one that prints them as Python has them is not."""
    chat = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "forty two"}]}]
    printing = (
        "{% for m in messages %}<s>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
    )
    light = chat_tokenizer("byte-fallback", printing, tmp_path).light
    assert "knows no lists as content" in refusal(light, [chat])
    knowing = printing.replace(
        "{{ m.content }}", "{{ m.content if m.content is string else m.content[0].text }}"
    )
    light = chat_tokenizer("byte-fallback", knowing, tmp_path).light
    assert learned(light, laid_out(light, [chat])) == ["forty two"]


def test_what_a_template_says_otherwise_is_refused(tmp_path: Path) -> None:
    """Here a text is taken for a list of parts, so that nothing of it is left."""
    parts = "{% for part in m.content %}{{ part.text }}{% endfor %}"
    light = chat_tokenizer(
        "byte-fallback", MARKED.replace("{{ m['content'] + '<|im_end|>' }}", parts), tmp_path
    ).light
    assert "leaves out, or changes, what message 1 says" in refusal(light, [ANSWERED])
    said: Chat = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "forty two"}]}]
    assert learned(light, laid_out(light, [said])) == ["forty two"]


def test_a_header_that_would_be_learned_is_refused(tmp_path: Path) -> None:
    """Templates from before there were generation prompts."""
    template = CHATML.partition("{% if add_generation_prompt")[0]
    light = chat_tokenizer("byte-fallback", template, tmp_path).light
    assert "asks for no answer before message 1" in refusal(light, [ANSWERED])


def test_tools_reach_the_template(tmp_path: Path) -> None:
    """As objects, as JSON in a text, or not at all; calls are the assistant's."""
    light = chat_tokenizer("byte-fallback", TOOLS, tmp_path).light
    chat = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}]
    tools = [[{"name": "add"}], '[{"name": "add"}]', None, [], "{", 3]
    laid = laid_out(light, [chat] * 6, tools, tools_field="tools")
    assert laid.kept.tolist() == [0, 1, 2, 3]
    assert learned(light, laid) == ['{"name": "add"}<|im_end|>']
    texts = [light.decode(row) for row, _ in rows_and_masks(laid)]
    assert texts[0] == texts[1] == 'tools: [{"name": "add"}]\n' + texts[2]
    assert [reason.partition(":")[0] for _, reason in laid.refused] == [
        "the tools are no JSON",
        "the tools are no list of JSON schemas",
    ]


def test_tools_that_a_template_leaves_out_are_refused(chatml: LightTokenizer) -> None:
    """The model would be taught to call what it was never shown."""
    assert "leaves out the tools" in refusal(chatml, [ANSWERED], [[{"name": "add"}]], tools_field="tools")


def test_a_long_chat_loses_its_end(chatml: LightTokenizer) -> None:
    """And is refused if nothing of the answer is left."""
    whole = laid_out(chatml, [ANSWERED])
    length = len(whole.tokens.values)
    cut = laid_out(chatml, [ANSWERED], max_length=length - 3)
    assert cut.tokens.values.tolist() == whole.tokens.values[:-3].tolist()
    assert (cut.truncated_documents, cut.truncated_tokens) == (1, 3)
    assert "max_length cuts off all" in refusal(chatml, [ANSWERED], max_length=5)


def test_python_tokenizers_chats_are_found_by_prefixes(tmp_path: Path) -> None:
    """They know no offsets."""
    light = chat_tokenizer("python", CHATML, tmp_path).light
    assert learned(light, laid_out(light, [ANSWERED])) == ["forty two<|im_end|>\n"]


def test_settings_that_no_chat_can_have_are_refused(tmp_path: Path, chatml: LightTokenizer) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError, match="would be there twice"):
        laid_out(chatml, [], bos="add")
    bare = chat_tokenizer("byte-fallback", None, tmp_path).light
    with pytest.raises(ConfigError, match="no chat template"):
        laid_out(bare, [])
    broken = chat_tokenizer("byte-fallback", "{% for %}", tmp_path).light
    with pytest.raises(ConfigError, match="the chat template is broken"):
        laid_out(broken, [])


def test_a_template_that_writes_the_date_needs_one(tmp_path: Path) -> None:
    """Else the same input would give other tokens tomorrow."""
    today = "{{ strftime_now('%d %b %Y') }}{{ strftime_now(\"%Y\") }}\n"
    light = chat_tokenizer("byte-level", today + CHATML, tmp_path).light
    with pytest.raises(ConfigError, match="today's date"):
        laid_out(light, [ANSWERED])
    with pytest.raises(ConfigError, match="is no date"):
        laid_out(light, [ANSWERED], chat_date="tomorrow")
    laid = laid_out(light, [ANSWERED], chat_date="2026-01-31")
    assert light.decode(laid.tokens.values.tolist()).startswith("31 Jan 20262026\n<s>user")
    computed = chat_tokenizer("byte-level", "{{ strftime_now(bos_token) }}" + CHATML, tmp_path).light
    with pytest.raises(ConfigError, match="computes how it writes dates"):
        laid_out(computed, [ANSWERED], chat_date="2026-01-31")


def test_no_chats_are_no_tokens(chatml: LightTokenizer) -> None:
    """A batch in which every record was broken."""
    laid = laid_out(chatml, [])
    assert laid.tokens.offsets.tolist() == [0]
    assert laid.kept.tolist() == []
