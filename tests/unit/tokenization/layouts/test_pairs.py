"""Of a pair, the completion is learned, and where it ends."""

import pytest
from made_tokenizers import Pair
from reference_encoding import reference_encode

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.layouts.layout import layout_for
from asynckit.tokenization.records import LaidOut


def laid_out(tokenizer: LightTokenizer, *pairs: tuple[str, str], **settings: object) -> LaidOut:
    config = TokenizationConfig(mode="pairs", **settings)  # type: ignore[arg-type]  # whatever a test sets
    layout = layout_for(config, tokenizer, reference_encode(tokenizer))
    return layout.lay_out(([prompt for prompt, _ in pairs], [completion for _, completion in pairs]))


def test_the_completion_and_eos_are_learned(pair: Pair) -> None:
    """Each half is encoded by itself, with the tokenizer's own special tokens around both."""
    pairs = [("the fox", " jumps"), ("a", "b"), ("", "the")]
    laid = laid_out(pair.light, *pairs, bos="tokenizer", eos="tokenizer")
    own = pair.whole("")["input_ids"]
    suffix = own[-1:] if own and pair.whole("a")["input_ids"][-1] == own[-1] else []
    prefix = own[: len(own) - len(suffix)]
    rows, masks = [], []
    for prompt, completion in pairs:
        first, second = (
            pair.whole(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion)
        )
        rows.append([*prefix, *first, *second, *suffix])
        masks.append([0] * len(prefix + first) + [1] * len(second + suffix))
    assert laid.loss_mask is not None
    kept = [index for index, mask in enumerate(masks) if 0 in mask]
    assert laid.kept.tolist() == kept
    assert laid.tokens.values.tolist() == [id_ for index in kept for id_ in rows[index]]
    assert laid.loss_mask.tolist() == [bit for index in kept for bit in masks[index]]


@pytest.mark.parametrize(
    ("prompt", "completion", "settings", "reason"),
    [
        ("the", "", {"eos": "none"}, "the completion has no tokens"),
        ("", "the", {"bos": "none"}, "the prompt has no tokens"),
        ("", "", {"bos": "none", "eos": "none"}, "the completion has no tokens"),
        ("<s>the", "he", {"bos": "add"}, "begins with the token"),
        ("the", "he</s>", {"eos": "add"}, "ends with the token"),
        ("the ethernet", "he", {"max_length": 2}, "max_length cuts off all"),
    ],
)
def test_pairs_from_which_nothing_or_the_wrong_thing_is_learned_are_refused(
    fallback: LightTokenizer, prompt: str, completion: str, settings: dict[str, object], reason: str
) -> None:
    """Each with what is wrong with it; the others are kept."""
    laid = laid_out(fallback, ("a", "b"), (prompt, completion), **settings)
    assert [index for index, _ in laid.refused][-1] == 1
    assert reason in dict(laid.refused)[1]


def test_an_empty_completion_is_learned_as_an_end(fallback: LightTokenizer) -> None:
    """To say nothing is an answer."""
    laid = laid_out(fallback, ("the", ""), eos="add")
    assert laid.loss_mask is not None
    assert laid.loss_mask.tolist()[-1] == 1
    assert laid.loss_mask.sum() == 1


def test_a_cut_completion_does_not_end(fallback: LightTokenizer) -> None:
    """A model would learn to stop in the middle of a sentence."""
    laid = laid_out(fallback, ("the", "ethernet"), eos="add", max_length=6)
    assert laid.loss_mask is not None
    assert len(laid.tokens.values) == 6
    assert laid.tokens.values[-1] != fallback.named_id("eos_token")
    assert (laid.truncated_documents, laid.truncated_tokens > 0) == (1, True)
