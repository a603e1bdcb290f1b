"""Incremental text: what is pushed piece by piece equals what is decoded at once."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from asynckit.engine.text import IncrementalText, StopStrings, cut_at_stop


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_llama)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(max_size=60))
def test_pieces_add_up_to_the_whole(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    """Emoji, combining characters and rare scripts come out whole, and nothing is lost at the end."""
    ids = tokenizer(text)["input_ids"]
    incremental = IncrementalText(tokenizer.decode)
    pieces = [incremental.push(token) for token in ids] + [incremental.finish()]
    assert "".join(pieces) == tokenizer.decode(ids)


def test_an_incomplete_character_is_held_back_and_flushed(tokenizer: PreTrainedTokenizerBase) -> None:
    """Half a character is never shown; at the end it comes out as U+FFFD."""
    ids = tokenizer("🦊")["input_ids"]
    assert len(ids) > 1
    incremental = IncrementalText(tokenizer.decode)
    assert incremental.push(ids[0]) == ""
    assert "\ufffd" in incremental.finish()


def test_stop_strings_are_found_across_token_borders(tokenizer: PreTrainedTokenizerBase) -> None:
    """A stop string need not be a token."""
    ids = tokenizer("the quick brown fox")["input_ids"]
    watch = StopStrings(("xyz", "k br"), tokenizer.decode)
    found = [watch.push(token) for token in ids]
    assert found.index(True) == next(i for i in range(len(ids)) if "k br" in tokenizer.decode(ids[: i + 1]))


def test_text_is_cut_at_the_stop_that_ended_it() -> None:
    """The last one counts, since an earlier one did not end it; what follows in the same token goes too."""
    assert cut_at_stop("one two th", ("two", "x")) == "one "
    assert cut_at_stop("a. b. c.", (".",)) == "a. b. c"
    assert cut_at_stop("one", ("two",)) == "one"


def test_a_stop_string_that_was_allowed_to_pass_is_not_found_again(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """min_tokens let it pass; it is still in the text that longer stop strings are looked for in."""
    watch = StopStrings(("b", "a long stop string"), tokenizer.decode)
    assert [watch.push(token) for token in tokenizer("abc")["input_ids"]] == [False, True, False]


def test_a_long_run_of_half_characters_is_known_soon(tokenizer: PreTrainedTokenizerBase) -> None:
    """Bytes that can't become a character any more are text, so a stop string after them is found."""
    half = tokenizer("🦊")["input_ids"][-1]
    incremental = IncrementalText(tokenizer.decode)
    assert sum(len(incremental.push(half)) for _ in range(100)) == 97
    assert "".join(incremental.push(token) for token in tokenizer("stop")["input_ids"]).endswith("stop")
    assert incremental.finish() == ""
