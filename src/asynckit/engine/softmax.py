"""A softmax over the vocabulary taken apart, so that only what is asked for is computed per column.

Sums run over a row in chunks of fixed size, never over all of it at once, which torch would split by threads
when the batch has one row: no row's result depends, bit for bit, on what else is in the batch.

Shape letters: B rows, V vocabulary, K candidates, C and S chunks of the vocabulary and their columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asynckit.engine.native import CHUNK, Kernels
from asynckit.engine.staging import index, to_device


@dataclass(frozen=True)
class Softmax:
    """Rows of ``exp(logit / temperature - peak) / total``.

    Attributes:
        logits_BV: as they were given, any float dtype.
        temperature_B: float32.
        peak_B: the largest of each row, over temperature.
        best_B: its column, the first one if several are.
        upper_BC: cumulative sums of ``exp(logit / temperature - peak)`` over the chunks, float64.
    """

    logits_BV: torch.Tensor
    temperature_B: torch.Tensor
    peak_B: torch.Tensor
    best_B: torch.Tensor
    upper_BC: torch.Tensor

    @classmethod
    def of(cls, logits_BV: torch.Tensor, temperatures: Sequence[float], kernels: Kernels | None) -> "Softmax":
        """Take logits apart; a temperature of 0 counts as 1."""
        temperature_B = to_device(
            torch.tensor([each or 1.0 for each in temperatures], dtype=torch.float32), logits_BV.device
        )
        parts = (kernels.softmax if kernels else _with_torch)(logits_BV, temperature_B)
        return cls(logits_BV, temperature_B, *parts)

    def totals(self) -> torch.Tensor:
        """Sums of ``exp(logit / temperature - peak)`` over whole rows, ``[B]``, float64."""
        return self.upper_BC[:, -1]

    def rows(self, rows: list[int]) -> "Softmax":
        """The same for some rows."""
        if len(rows) == len(self.peak_B):
            return self
        row_R = index(rows, self.peak_B.device)
        parts = (self.logits_BV, self.temperature_B, self.peak_B, self.best_B, self.upper_BC)
        return Softmax(*(part[row_R] for part in parts))

    def scaled(self) -> torch.Tensor:
        """Logits over temperature ``[B, V]``, float32."""
        return _scaled(self.logits_BV, self.temperature_B)

    def logprobs(self, token_BK: torch.Tensor) -> torch.Tensor:
        """Log-probabilities ``[B, K]`` of token ids ``[B, K]``, float64."""
        scaled_BK = _scaled(self.logits_BV.gather(1, token_BK), self.temperature_B)
        return scaled_BK.double() - (self.totals().log() + self.peak_B)[:, None]

    def chunk(self, chunk_B: torch.Tensor) -> torch.Tensor:
        """``exp(logit / temperature - peak)`` of one chunk per row, ``[B, S]``, zero past the vocabulary."""
        column_BS = chunk_B[:, None] * CHUNK + torch.arange(CHUNK, device=chunk_B.device)
        last = self.logits_BV.shape[1] - 1
        scaled_BS = _scaled(self.logits_BV.gather(1, column_BS.clamp(max=last)), self.temperature_B)
        return (scaled_BS - self.peak_B[:, None]).exp().masked_fill(column_BS > last, 0.0)


def _scaled(logits_BK: torch.Tensor, temperature_B: torch.Tensor) -> torch.Tensor:
    return logits_BK.float() / temperature_B[:, None]


def _with_torch(
    logits_BV: torch.Tensor, temperature_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What :meth:`Kernels.softmax` computes."""
    scaled_BV = _scaled(logits_BV, temperature_B)
    rows, vocabulary = scaled_BV.shape
    peak_B, best_B = scaled_BV.max(-1)
    weight_BV = scaled_BV.sub_(peak_B[:, None]).exp_()
    if vocabulary % CHUNK:
        weight_BV = torch.nn.functional.pad(weight_BV, (0, -vocabulary % CHUNK))
    upper_BC = weight_BV.view(rows, -1, CHUNK).sum(-1).double().cumsum(-1)
    return peak_B, best_B, upper_BC
