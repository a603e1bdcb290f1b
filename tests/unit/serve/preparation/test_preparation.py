"""Laying out chats and tokenizing, in processes that can be killed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import DependencyError
from asynckit.models.config import ModelConfig
from asynckit.serve.api.errors import ApiError
from asynckit.serve.preparation import pool
from asynckit.serve.preparation.child import chat_ids, outcome
from asynckit.serve.preparation.jobs import Chat, Decode, Encode, Prepared, Wrong
from asynckit.serve.preparation.literal import Marks
from asynckit.serve.preparation.pool import MOST_PROCESSES, Preparers, _Preparer
from asynckit.serve.preparation.prompt_tokenizer import PromptTokenizer

ENDLESS = (
    "{% if messages[0].content == 'go' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}{% endif %}{{ messages[0].content }}"
)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> PromptTokenizer:
    """The tokenizer."""
    return PromptTokenizer.load(ModelConfig(name=str(tokenizer_folder)))


def chat(content: str, **fields: Any) -> Chat:
    return Chat(({"role": "user", "content": content},), **fields)


@pytest.mark.parametrize(
    "content", ["hi", "a<|end|>b", "<|end|>", "<|assistant|><|user|>", "<|end|", "🙂<|end|>"]
)
def test_what_looks_like_a_special_token_stays_text(tokenizer: PromptTokenizer, content: str) -> None:
    """The prompt reads the same as ever, and its only special tokens are the template's."""
    prepared = chat_ids(tokenizer, chat(content))
    assert isinstance(prepared, Prepared)
    (ids,) = prepared.ids
    assert tokenizer.light.decode(ids) == f"<|user|>{content}<|end|><|assistant|>"
    assert sum(id_ in tokenizer.light.special_ids for id_ in ids) == 3


def test_a_text_prompt_may_have_special_tokens(tokenizer: PromptTokenizer) -> None:
    """Who lays a chat out himself can."""
    prepared = outcome(tokenizer, Encode(("<|user|>hi<|end|>",)))
    assert isinstance(prepared, Prepared)
    assert set(prepared.ids[0]) >= {tokenizer.specials["<|user|>"], tokenizer.specials["<|end|>"]}


SPECIALS = {"<|end|>": 0, "<|e": 1, "[X]": 2}
TEXTS = st.text("<|end>[X]Q0xZ ", max_size=20)


@given(st.lists(TEXTS | st.sampled_from(sorted(SPECIALS)), max_size=5))
def test_marks_come_back_as_they_were(parts: list[str]) -> None:
    """Marked text has no special token, and taking the marks away gives it back."""
    marks, text = Marks(SPECIALS, "77aa"), "".join(parts)
    marked = marks.put({"a": [text]})["a"][0]
    assert not any(special in marked for special in SPECIALS)
    assert marks.take(marked) == text
    assert "".join(map(str, marks.pieces(marked))) == text


@pytest.mark.parametrize(
    "name", ["chat_template", "tokenize", "messages", "eos_token", "continue_final_message"]
)
def test_template_arguments_that_are_ours(tokenizer: PromptTokenizer, name: str) -> None:
    """A client sets the template's variables, never how it is used."""
    assert isinstance(chat_ids(tokenizer, chat("hi", arguments={name: "x"})), Wrong)


def test_a_template_may_refuse(tokenizer: PromptTokenizer) -> None:
    """What the template raises is the chat's fault."""
    wrong = chat_ids(tokenizer, Chat(({"role": "user", "content": {"no": "text"}},), tools=({"a": 1},)))
    assert isinstance(wrong, Prepared | Wrong)
    calls = [{"function": {"name": "f", "arguments": "[1]"}}]
    wrong = chat_ids(tokenizer, Chat(({"role": "assistant", "content": "", "tool_calls": calls},)))
    assert isinstance(wrong, Wrong)
    assert "must be a JSON object" in wrong.message


def test_decoding(tokenizer: PromptTokenizer) -> None:
    """Ids become text, together or each by itself."""
    ids = tuple(tokenizer.light.encode("the quick"))
    assert outcome(tokenizer, Decode((ids,))) == Prepared(texts=("the quick",))
    assert outcome(tokenizer, Decode((ids,), each=True)) == Prepared(texts=("the", " quick"))


@pytest.fixture
def endless(tokenizer_folder: Path, tmp_path: Path) -> ModelConfig:
    """A model whose template does not end when it is told to go."""
    for file in tokenizer_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(ENDLESS)
    return ModelConfig(name=str(tmp_path))


async def test_an_endless_template_costs_its_process_only(endless: ModelConfig) -> None:
    """It ends with 503 when its time is up, others go on meanwhile, and later ones find a new process."""
    preparers = Preparers(endless, 3.0)
    await preparers.start()
    try:
        stuck = [asyncio.create_task(preparers.prepare(chat("go"))) for _ in range(2)]
        for task in stuck:
            with pytest.raises(ApiError) as caught:
                await task
            assert (caught.value.status, caught.value.code) == (503, "prepare_timeout")
        prepared = await preparers.prepare(chat("hi"))
        assert len(prepared.ids) == 1
    finally:
        await preparers.close()


async def test_a_client_that_leaves_does_not_mix_answers(endless: ModelConfig) -> None:
    """The next job gets its own answer after one that nobody waits for any more."""
    preparers = Preparers(endless, 20.0)
    await preparers.start()
    try:
        for text in ("one", "two two", "three"):
            gone = asyncio.create_task(preparers.prepare(Encode((text * 1000,))))
            await asyncio.sleep(0)
            gone.cancel()
            answers = await asyncio.gather(*(preparers.prepare(chat(word)) for word in ("a", "b")))
            assert [len(each.ids[0]) for each in answers] == [1, 1]
            assert answers[0] != answers[1]
    finally:
        await preparers.close()


async def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    """The server can't start, and says what is missing."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    preparers = Preparers(ModelConfig(name=str(tmp_path)), 3.0)
    with pytest.raises(DependencyError):
        await preparers.start()
    await preparers.close()


async def test_a_job_that_no_frame_holds_takes_no_preparer(endless: ModelConfig) -> None:
    """It is the client's mistake, however often it comes, and the next job is done."""
    preparers = Preparers(endless, 20.0)
    await preparers.start()
    try:
        for _ in range(MOST_PROCESSES + 1):
            with pytest.raises(ApiError) as caught:
                await preparers.prepare(chat("hi", arguments={"x": 2**70}))
            assert caught.value.status == 400
        assert len((await preparers.prepare(Encode(("hi",)))).ids) == 1
    finally:
        await preparers.close()


async def test_a_preparer_that_answers_nonsense_is_replaced(
    endless: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with a preparer, it is ended, and the next job finds another."""
    preparers = Preparers(endless, 20.0)
    await preparers.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(_Preparer, "exchange", _fails)
            with pytest.raises(LookupError):
                await preparers.prepare(Encode(("hi",)))
        assert len((await preparers.prepare(Encode(("hi",)))).ids) == 1
    finally:
        await preparers.close()


async def _fails(*_: object) -> None:
    raise LookupError


async def test_no_room_for_a_process(endless: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is said as ours, and a pipe that breaks at once is, too."""
    monkeypatch.setattr(pool, "_COMMAND", ("/no/such/program",))
    with pytest.raises(DependencyError, match="can't be started"):
        await Preparers(endless, 20.0).start()
    monkeypatch.setattr(pool, "_COMMAND", ("/bin/true",))
    preparers = Preparers(endless, 20.0)
    with pytest.raises(DependencyError, match="can't be started"):
        await preparers.start()
    await preparers.close()
