"""The text of one sample while its tokens come, never retracted and in the end exactly the decoded whole."""

import codecs

from asynckit.engine.text import TextWindow
from asynckit.models.light_tokenizer import LightTokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST_MARK = 3  # characters after the space that clean-up looks at, as in " n't"


class ByteRun:
    """Consecutive byte tokens such as ``<0xE2>``, which decode all or nothing.

    If they are UTF-8 from the first to the last, they are that text, else each is U+FFFD: so a good beginning
    is worth nothing before the run ends, while a run that went bad stays so.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.bad = False
        self.high = -1  # the last token above ASCII: one such byte alone is no UTF-8
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def add(self, token: int, byte: int) -> None:
        """Take a token in."""
        self.tokens.append(token)
        if byte >= 0x80:
            self.high = token
        try:
            self._decoder.decode(bytes([byte]))
        except UnicodeDecodeError:
            self.bad = True


class GrowingText:
    """Collects the tokens of one sample: :meth:`add`, decode the window where asked, :meth:`take` the text.

    Args:
        tokenizer: whose tokens they are.
        skip_special_tokens: whether special tokens add no text.
    """

    def __init__(self, tokenizer: LightTokenizer, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._run: ByteRun | None = None
        self._unclean = ""
        self._new = ""
        self.window = TextWindow()

    def add(self, token: int) -> bool:
        """Take a token in; returns whether the window is to be decoded for :meth:`read`."""
        if token in self._skipped:
            return False
        byte = self._tokenizer.fallback.get(token)
        if byte is not None:
            self._add_byte(token, byte)
            return False
        if not self._tokenizer.knows(token):
            return False
        self._close_run()
        self.window.tokens.append(token)
        return True

    def end(self) -> bool:
        """Let nothing be held back any longer; returns whether the window is to be decoded."""
        self._close_run()
        return bool(self.window.tokens)

    def read(self, text: str, *, last: bool = False) -> None:
        """Take in the window's text as ``LightTokenizer.decode_windows`` gives it."""
        self._new += self.window.read(text, last=last)

    def take(self, *, last: bool = False) -> str:
        """The text that is certain and was not taken yet."""
        new, self._new = self._new, ""
        return self._cleaned(new, last=last) if self._tokenizer.cleans else new

    def _add_byte(self, token: int, byte: int) -> None:
        run = self._run = self._run or ByteRun()
        was_bad = run.bad
        run.add(token, byte)
        if was_bad:
            self._new += _REPLACEMENT
        elif run.bad:
            self._new += self.window.release() + _REPLACEMENT * len(run.tokens)

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        if run.bad:
            self.window.restart(run.high)
        else:
            self.window.tokens += run.tokens

    def _cleaned(self, new: str, *, last: bool) -> str:
        text = self._unclean + new
        end = len(text) if last else _clean_end(text)
        self._unclean = text[end:]
        return self._tokenizer.clean(text[:end])


def _clean_end(text: str) -> int:
    """Up to where ``text`` can be cleaned up by itself: no space shortly before, no mark across it."""
    end = len(text)
    while True:
        space = text.rfind(" ", 0, end)
        if space < 0 or end - space > _LONGEST_MARK:
            return end
        end = space
