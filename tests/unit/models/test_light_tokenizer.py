"""The light tokenizer is transformers' own, for every kind of tokenizer, without torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tokenizers import Pair, config_of

from asynckit.models.config import ModelConfig
from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.token_bytes import byte_alphabet
from asynckit.models.tokenizer import load_tokenizer

_slow_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "hi <|im_end|>"},
    {"role": "assistant", "content": "é", "refusal": None},
]


@pytest.fixture
def byte_level_folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer that a test may change."""
    return Path(config_of("byte-level", tmp_path).name)


@pytest.mark.filterwarnings("ignore:This sequence already has")  # ByT5, of an end token typed as text
@_slow_fixture
@given(text=st.text(max_size=40), special=st.booleans())
def test_texts_become_the_same_ids(pair: Pair, text: str, special: bool) -> None:
    """With and without the special tokens that the model wants."""
    assert pair.light.encode(text, special) == pair.whole(text, add_special_tokens=special)["input_ids"]


@_slow_fixture
@given(data=st.data(), skip=st.booleans())
def test_ids_become_the_same_text(pair: Pair, data: st.DataObject, skip: bool) -> None:
    """Any ids; one call for many lists gives the same as many calls."""
    ids = data.draw(st.lists(st.integers(0, pair.light.vocabulary - 1), max_size=40))
    text = pair.whole.decode(ids, skip_special_tokens=skip)
    assert pair.light.decode(ids, skip) == text
    assert pair.light.decode_batch([ids, []], skip) == [text, ""]


def test_special_tokens_typed_as_text_become_the_same_ids(pair: Pair) -> None:
    """Whatever a tokenizer makes of them, it is what transformers makes of them."""
    text = "a <s></s> <|im_end|><|end|> [INST]"
    assert pair.light.encode(text) == pair.whole(text)["input_ids"]
    assert pair.light.special_ids >= frozenset(pair.whole.all_special_ids)
    assert pair.light.vocabulary == max(pair.whole.get_vocab().values()) + 1


def test_named_tokens_have_their_ids(pair: Pair) -> None:
    """Those that the tokenizer has; ``None`` for the others."""
    for name in ("bos_token", "eos_token", "pad_token", "unk_token", "no_such_token"):
        assert pair.light.named_id(name) == getattr(pair.whole, f"{name}_id", None)


@_slow_fixture
@given(text=st.text(max_size=40))
def test_tokens_have_transformers_offsets(pair: Pair, text: str) -> None:
    """In characters of the text; Python tokenizers know none."""
    assert pair.light.has_offsets == pair.whole.is_fast
    if pair.light.has_offsets:
        whole = pair.whole(text, add_special_tokens=False, return_offsets_mapping=True)
        assert pair.light.offsets(text) == whole["offset_mapping"]


def test_another_template_says_what_the_assistant_says(pair: Pair) -> None:
    """Where it marks that, and where the tokenizer could use it."""
    template = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}"
        "{{ add_generation_prompt }}"
    )
    text, marked = pair.light.render_marked(template, CHAT)
    assert text == "hi <|im_end|>;é;False"
    assert marked == ([(0, 13), (14, 15)] if pair.light.has_offsets else [])
    assert pair.light.render_marked("a", CHAT, add_generation_prompt=True) == ("a", [])


def test_chats_are_laid_out_the_same(pair: Pair) -> None:
    """Keys that are None are left out, and template arguments reach the template."""
    for prompt in (False, True):
        expected = pair.whole.apply_chat_template(CHAT, add_generation_prompt=prompt, tokenize=False)
        assert pair.light.render_chat(CHAT, add_generation_prompt=prompt) == expected
    assert pair.light.chat_template == pair.whole.chat_template
    go_on: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}
    assert pair.light.render_chat(CHAT, **go_on) == pair.whole.apply_chat_template(
        CHAT, tokenize=False, **go_on
    )


def test_templates_see_tools_and_special_tokens(byte_level_folder: Path) -> None:
    """A template of its own for tools is used with them."""
    tools = [{"type": "function", "function": {"name": "add"}}]
    default, with_tools = (
        "{{ eos_token }}{{ mood }}",
        "{{ tools | tojson }}{{ raise_exception('no') if mood }}",
    )
    for name, template in (("default", default), ("tool_use", with_tools)):
        folder = byte_level_folder / "additional_chat_templates"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.jinja").write_text(template)
    (byte_level_folder / "chat_template.jinja").write_text(default)
    config = ModelConfig(name=str(byte_level_folder), cache_dir=str(byte_level_folder / "cache"))
    whole = load_tokenizer(None, config)
    for _ in range(2):  # made, then kept
        light = LightTokenizer.load(config)
        assert light.render_chat(CHAT, mood="!") == whole.apply_chat_template(CHAT, tokenize=False, mood="!")
        assert json.loads(light.render_chat(CHAT, tools)) == tools
        assert light.chat_template == default


@pytest.mark.parametrize("messages", [[], [{"content": 1}]])
def test_chats_that_cannot_be_laid_out_are_refused(pair: Pair, messages: list[dict[str, object]]) -> None:
    """By the errors that are documented."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        pair.light.render_chat(messages, add_generation_prompt=True, continue_final_message=True)


def test_a_token_has_its_text_in_a_sentence_and_its_bytes(
    byte_level: LightTokenizer, fallback: LightTokenizer
) -> None:
    """A leading space stays, half a character keeps its bytes."""
    assert b"".join(map(byte_level.token_bytes, byte_level.encode("é 🦊<|end|>"))) == "é 🦊<|end|>".encode()
    assert b"".join(map(fallback.token_bytes, fallback.encode("the 🦊"))).lstrip() == "the 🦊".encode()
    assert fallback.token_text(fallback.encode("the a")[-1]).endswith("a")
    assert byte_level.token_text(byte_level.vocabulary) == ""
    assert byte_level.token_bytes(-1) == b""
    assert len(set(byte_alphabet().values())) == 256


def test_all_bytes_are_those_of_each_token(pair: Pair) -> None:
    """Counting text takes them in one go."""
    light = pair.light
    assert light.all_bytes() == [light.token_bytes(id_) for id_ in range(light.vocabulary)]


def test_changed_files_are_read_anew(byte_level_folder: Path) -> None:
    """What is kept of a tokenizer belongs to its files."""
    config = ModelConfig(name=str(byte_level_folder), cache_dir=str(byte_level_folder / "cache"))
    LightTokenizer.load(config)
    (byte_level_folder / "chat_template.jinja").write_text("other")
    assert LightTokenizer.load(config).chat_template == "other"


def test_ids_that_no_tokenizer_takes_add_nothing(byte_level: LightTokenizer) -> None:
    """Clients of /detokenize may send any number."""
    assert byte_level.decode([-1, 2**40, *byte_level.encode("a")]) == "a"


def test_a_light_process_imports_no_torch(byte_level_folder: Path) -> None:
    """Neither at the first start nor later; from the second on not even transformers."""
    cache = str(byte_level_folder / "cache")
    code = (
        "import sys\n"
        "from asynckit.models.config import ModelConfig\n"
        "from asynckit.models.light_tokenizer import LightTokenizer, keep_torch_out\n"
        f"config = ModelConfig(name={str(byte_level_folder)!r}, cache_dir={cache!r})\n"
        "keep_torch_out(config)\n"
        "light = LightTokenizer.load(config)\n"
        "late = 'transformers' in sys.modules\n"
        "light.render_chat([{'role': 'user', 'content': 'hi'}])\n"
        "print(late, sys.modules['torch'], light.encode('a b'))\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    ids = LightTokenizer.load(ModelConfig(name=str(byte_level_folder))).encode("a b")
    assert [output.stdout.strip() for output in outputs] == [f"True None {ids}", f"False None {ids}"]
    assert [output.stderr for output in outputs] == ["", ""]
