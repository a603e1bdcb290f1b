"""Texts on which encoders tend to differ, for hypothesis."""

from hypothesis import strategies as st

_BITS = [
    *(" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "'s", "'LL", "'", "a", "the", " The"),
    *("1", "12345", "٣", "Ⅷ", "½", "\U0001d7d8", "5G net", "5G", "é", "e\u0301", "世界", "😀", "👩\u200d👧"),
    *("<|end|>", "<|end", "<mask>", " <mask> ", "<|im_end|>", "<|endoftext|>", "===", "...", "-"),
    *("\u200b", "\ufeff", "\x00", "\x04", "\x7f", "\u0345\u0334", "\u0eba\u0eca", "\U0001183a", "\ue000"),
    *("क\u094dष", "مرحبا", "\U0010ffff", "\u0378", "ﬁ", "Å", "\u1112\u1161\u11ab"),
]


def nasty_texts() -> st.SearchStrategy[str]:
    """Any characters, known traps, and runs of them."""
    bit = st.one_of(st.sampled_from(_BITS), st.characters(exclude_categories=["Cs"]))
    run = st.tuples(bit, st.integers(1, 70)).map(lambda pair: pair[0] * pair[1])
    return st.lists(st.one_of(bit, bit, bit, run), max_size=25).map("".join)
