"""Which encoder a tokenizer gets."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from asynckit.errors import ConfigError, EncoderMismatch
from asynckit.models.tokenizer_parts import TokenizerParts, parts_of
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.encoding.encoder import Encoder, Engine, NotApplicable
from asynckit.tokenization.encoding.gate import CheckedEncoder
from asynckit.tokenization.encoding.gigatoken_encoder import Gigatoken
from asynckit.tokenization.encoding.kitoken_encoder import Kitoken
from asynckit.tokenization.encoding.reference import Reference
from asynckit.tokenization.encoding.trial import trial_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENGINES: dict[str, Callable[[TokenizerParts, Reference], Engine]] = {  # the fastest first
    "gigatoken": Gigatoken,
    "kitoken": Kitoken,
}
_logger = logging.getLogger(__name__)


def choose_encoder(
    tokenizer: "TokenizerParts | PreTrainedTokenizerBase",
    config: TokenizationConfig,
    avoid: frozenset[str] = frozenset(),
) -> Encoder:
    """The fastest encoder that is exact for a tokenizer as far as a trial shows, checked from then on.

    Args:
        tokenizer: as :func:`asynckit.models.tokenizer_parts.load_parts` gives it.
        config: its ``encoder`` and ``check_share``.
        avoid: encoders that were found to differ on the work's own texts.

    Raises:
        ConfigError: the encoder that the configuration names cannot do this tokenizer, or the tokenizer
            itself is random.
        EncoderMismatch: it differs from the reference in the trial.
    """
    reference = Reference(tokenizer)
    parts = tokenizer if isinstance(tokenizer, TokenizerParts) else parts_of(tokenizer)
    if parts and getattr(parts.backend.model, "dropout", None):
        raise ConfigError(
            "the tokenizer leaves out merges at random, so the same text has other tokens each time",
            where="--tokenizer",
            mend='set "dropout" to null in its tokenizer.json',
        )
    if config.encoder == "tokenizers":
        return reference
    if config.encoder != "auto":
        return _named(config.encoder, parts, reference, config)
    for name in _ENGINES:
        if name not in avoid:
            try:
                return _checked(name, parts, reference, config)
            except (NotApplicable, EncoderMismatch) as error:
                _logger.info("the encoder %s is not used: %s", name, error)
    return reference


def _named(
    name: str, parts: TokenizerParts | None, reference: Reference, config: TokenizationConfig
) -> CheckedEncoder:
    try:
        return _checked(name, parts, reference, config)
    except NotApplicable as error:
        raise ConfigError(
            f"{name} cannot encode with this tokenizer: {error}",
            where="tokenization.encoder",
            mend="--encoder auto",
        ) from error


def _checked(
    name: str, parts: TokenizerParts | None, reference: Reference, config: TokenizationConfig
) -> CheckedEncoder:
    """The engine after its trial."""
    if parts is None:
        raise NotApplicable("it is Python code of its own")
    special = [token.content for token in parts.backend.get_added_tokens_decoder().values()]
    engine = _ENGINES[name](parts, reference)
    CheckedEncoder(engine, reference, 1.0, special).encode(trial_texts(special))
    return CheckedEncoder(engine, reference, config.check_share, special)
