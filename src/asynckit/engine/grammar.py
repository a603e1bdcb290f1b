"""Responses held to a JSON Schema or a regular expression, through the llguidance library.

A grammar is compiled once and kept (the latest :data:`CACHED`); each sample walks its own copy. At every step
the copy says which tokens may come next, so what is sampled always is a prefix of a text that matches. How
llguidance does it: https://github.com/guidance-ai/llguidance (derivatives of regular expressions for the
lexer, an Earley parser above it).

A grammar comes from whoever sends the request, so its cost is bounded: by the length of its text, by a first
compilation in a process with little time and memory (:mod:`asynckit.engine.grammar_trial`), and in every step
by llguidance's own limits. What exceeds them is refused or, in a step, ends that sample with an error.
"""

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asynckit.engine.config import SamplingParams
from asynckit.engine.grammar_trial import NOTHING_FOLLOWS, parser_limits, trial
from asynckit.errors import DependencyError, RequestError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

LONGEST = 65_536  # characters of a schema or regex; one of this size can take 0.3 s to compile
CACHED = 32
_SIMPLER = "see docs/sampling.md for what grammars may hold"
_WHITESPACE = r"[ \n\t\r]{1,32}"  # between JSON tokens; bounded, so that no response is all blanks


class Matcher:
    """One sample's place in its grammar."""

    def __init__(self, matcher: "LLMatcher", eos_ids: NDArray[np.int64]) -> None:
        self._matcher = matcher
        self._eos_ids = eos_ids

    @property
    def complete(self) -> bool:
        """Whether the text matches and nothing can follow but its end."""
        return self._matcher.is_stopped() and self._matcher.is_accepting()

    @property
    def error(self) -> str:
        """Why the grammar can't go on, one line; empty while it can, or when nothing matches."""
        error = self._matcher.get_error()
        return "" if error.startswith(NOTHING_FOLLOWS) else _telling_line(error)

    def push(self, token: int) -> None:
        """Step over a token that :meth:`allowed` admitted."""
        self._matcher.consume_token(token)

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """Which of the first ``vocabulary`` token ids may come next; none after an error."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(np.bool_)
        if self._matcher.is_error():
            allowed[:] = False
        elif not self._matcher.is_accepting():
            allowed[self._eos_ids] = False  # llguidance offers the end where nothing else is left
        return allowed

    def copy(self) -> "Matcher":
        """An independent matcher at the same place."""
        return Matcher(self._matcher.deep_copy(), self._eos_ids)


class Grammars:
    """Compiles the grammars of one model's requests.

    Args:
        tokenizer: the model's, as transformers loads it; its vocabulary is read at the first grammar (0.3 s
            for 49,152 tokens).
        vocabulary: token ids that the model's logits cover.
        eos_ids: tokens that end a response.
        tried: whether every grammar has passed :func:`check_grammar` elsewhere, and needs no trial here.
    """

    def __init__(
        self, tokenizer: Any, vocabulary: int, eos_ids: frozenset[int], *, tried: bool = False
    ) -> None:
        self._hf_tokenizer = tokenizer
        self._tried = tried
        self._vocabulary = vocabulary
        self._eos_ids = sorted(eos_ids)
        self._compiled = functools.lru_cache(maxsize=CACHED)(self._compile)

    def start(self, params: SamplingParams) -> Matcher:
        """A matcher at the beginning of the grammar of constrained ``params``.

        Raises:
            RequestError: the grammar is wrong, unsupported, too large or matches nothing.
            DependencyError: llguidance is not installed.
        """
        return self._compiled(params.json_schema, params.regex).copy()

    def _compile(self, json_schema: str | None, regex: str | None) -> Matcher:
        tokenizer = self._tokenizer
        from llguidance import LLMatcher

        name, grammar = as_grammar(json_schema, regex)
        problem = "" if self._tried else trial(grammar)
        if not problem:
            made = LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits())
            matcher = Matcher(made, np.array(self._eos_ids, dtype=np.int64))
            problem = matcher.error or self._why_impossible(matcher.copy())
        if problem:
            raise _unusable(name, problem)
        return matcher

    def _why_impossible(self, matcher: Matcher) -> str:
        """Why not even a first token can follow; empty when one can."""
        if matcher.allowed(self._vocabulary).any():
            return ""
        return matcher.error or "no text of this model's vocabulary matches it"

    @functools.cached_property
    def _tokenizer(self) -> "LLTokenizer":
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise _not_installed() from error
        if not self._eos_ids or not self._hf_tokenizer.is_fast:
            lack = "end-of-text token" if self._hf_tokenizer.is_fast else "tokenizer in Rust"
            raise RequestError(f"json_schema and regex don't work with this model: it has no {lack}")
        size = max(self._vocabulary, len(self._hf_tokenizer))
        return from_tokenizer(self._hf_tokenizer, n_vocab=size, eos_token=self._eos_ids)


def check_grammar(json_schema: str | None, regex: str | None) -> None:
    """Refuse what no engine could use; takes up to some seconds, in another process.

    Raises:
        RequestError: the grammar is wrong, unsupported, too large or matches nothing.
        DependencyError: llguidance is not installed.
    """
    name, grammar = as_grammar(json_schema, regex)
    if problem := trial(grammar):
        raise _unusable(name, problem)


def as_grammar(json_schema: str | None, regex: str | None) -> tuple[str, str]:
    """Which of the two it is, and its grammar as llguidance reads it; raises as check_grammar does."""
    name, text = ("json_schema", json_schema) if regex is None else ("regex", regex)
    assert text is not None
    if len(text) > LONGEST:
        raise RequestError(f"{name} has {len(text)} characters; {LONGEST} are accepted", mend=_SIMPLER)
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise _not_installed() from error
    try:
        grammar = _schema_grammar(text) if regex is None else LLMatcher.grammar_from_regex(text)
    except ValueError as error:  # what JSON or UTF-8 can't hold
        raise RequestError(f"{name} can't be read: {_telling_line(str(error))}") from error
    return name, grammar


def _not_installed() -> DependencyError:
    return DependencyError(
        "json_schema and regex need llguidance, which is not installed",
        mend='pip install "asynckit[grammar]"',
    )


def _unusable(name: str, problem: str) -> RequestError:
    return RequestError(f"{name} can't be used: {_telling_line(problem)}", mend=_SIMPLER)


def _schema_grammar(text: str) -> str:
    """The grammar of a JSON Schema; only parsed JSON reaches llguidance, and its own options are fixed."""
    from llguidance import LLMatcher

    try:
        schema: Any = json.loads(text, parse_constant=_refuse_constant)
        schema = {} if schema is True else schema
        if not isinstance(schema, dict):
            raise RequestError(
                "json_schema admits no value" if schema is False else "json_schema must be a JSON object"
            )
        return LLMatcher.grammar_from_json_schema(
            schema,
            overrides={
                "item_separator": ",",
                "key_separator": ":",
                "whitespace_flexible": True,
                "whitespace_pattern": _WHITESPACE,
                "coerce_one_of": False,
                "lenient": False,
            },
        )
    except RecursionError as error:
        raise RequestError("json_schema is nested too deeply", mend=_SIMPLER) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _telling_line(text: str) -> str:
    """The line that says what is wrong: regex errors put it last, all others first."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "<non-verbose/>" not in line]
    return next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
