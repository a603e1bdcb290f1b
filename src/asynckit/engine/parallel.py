"""Several processes that hold one model together, each a part of every layer (tensor parallelism).

Every process runs the whole engine on its part: the same calls in the same order, then the same steps. Heads
and columns are shared out as in Shoeybi et al. 2019, "Megatron-LM", so two sums over the ranks per layer are
all that the model itself needs (:mod:`asynckit.engine.sharding`). Beside them the ranks compare, before each
pass, what they are about to do, and take over what rank 0 has sampled. So they either do the same or stop
with an error. A rank that has died is noticed at once; one that hangs, after a time-out.

The ranks talk through ``torch.distributed``: NCCL between GPUs, gloo for everything else. It knows no
authentication: whoever reaches a port of it can take part. On one machine it keeps to the loopback device,
and a file as the rendezvous opens no port beside that; a TCP rendezvous listens on all devices.
"""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import torch
from torch import distributed

from asynckit.errors import ConfigError, DependencyError, WorkFailed

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MEND = "start all ranks of this model anew"


@dataclass(frozen=True)
class Parallel:
    """One process's place among those that hold a model together.

    Attributes:
        rank: from 0 up to, but not including, ``size``. Rank 0 decides which tokens are sampled.
        size: how many processes there are.
        rendezvous: where they meet: on one machine ``file:///PATH`` of a file that does not exist yet, else
            ``tcp://HOST:PORT``, where rank 0 listens. All ranks have the same, and no other engine has.
        timeout: seconds that a rank waits for the others in a step.
        load_timeout: seconds that it waits for them before the first step.
    """

    rank: int
    size: int
    rendezvous: str
    timeout: float = 60.0
    load_timeout: float = 600.0


class Ranks:
    """This process's connections to the others; a process can be part of one model at a time.

    Args:
        parallel: which place it has.
        device: where the model runs.

    Raises:
        ConfigError: there is no such place, or no such kind of rendezvous.
        DependencyError: the others don't come.
    """

    def __init__(self, parallel: Parallel, device: torch.device) -> None:
        _check(parallel)
        self.rank, self.size = parallel.rank, parallel.size
        # Summed in the order of the ranks, a row's result does not depend on what else is in the pass, nor
        # on which rank asks; gloo's own sums do.
        self._in_order = device.type == "cpu"
        _stay_on_this_machine(parallel.rendezvous)
        try:
            distributed.init_process_group(
                "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
                init_method=parallel.rendezvous,
                timeout=timedelta(seconds=parallel.load_timeout),
                world_size=parallel.size,
                rank=parallel.rank,
            )
            self._group = distributed.new_group(timeout=timedelta(seconds=parallel.timeout))
        except (RuntimeError, ValueError, OSError) as error:
            raise DependencyError(
                f"rank {parallel.rank} does not reach the other ranks of its model: {_first_line(error)}",
                where=parallel.rendezvous,
                mend="start all ranks at the same time, with a rendezvous that nobody has used yet",
            ) from error

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' tensors of this shape; ``part`` may be overwritten."""
        with self._reaching("a sum"):
            if not self._in_order:
                distributed.all_reduce(part, group=self._group)
                return part
            parts = [torch.empty_like(part) for _ in range(self.size)]
            distributed.all_gather(parts, part.contiguous(), group=self._group)
        total = parts[0].float()
        for other in parts[1:]:
            total += other
        return total.to(part.dtype)

    def least(self, number: int) -> int:
        """The smallest of all ranks' numbers; waits for ranks that are still loading."""
        with self._reaching("a number"):
            found = torch.tensor([number])
            distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return int(found)

    def agree(self, on: object, *, loading: bool = False) -> None:
        """Go on only if all ranks have the same ``on``, of which ``repr`` is compared.

        Args:
            on: what must be the same.
            loading: whether ranks may still be loading, which is waited for.

        Raises:
            WorkFailed: they don't.
        """
        digest = hashlib.blake2b(repr(on).encode(), digest_size=7).digest()
        mine = torch.tensor([int.from_bytes(digest, "big")])
        all_ = [torch.empty_like(mine) for _ in range(self.size)]
        with self._reaching("an agreement"):
            distributed.all_gather(all_, mine, group=None if loading else self._group)
        if any(int(other) != int(mine) for other in all_):
            raise WorkFailed(
                "the ranks of this model differ in their "
                + ("settings" if loading else "requests, weights or adapters"),
                where=f"rank {self.rank}",
                mend=_MEND,
            )

    def choice(self, tokens: list[int], logprobs: list[float]) -> tuple[list[int], list[float]]:
        """Rank 0's tokens and their logprobs; every rank gives its own, as many."""
        both = torch.tensor([tokens, logprobs], dtype=torch.float64)
        with self._reaching("sampled tokens"):
            distributed.broadcast(both, 0, group=self._group)
        return both[0].long().tolist(), both[1].tolist()

    def failure(self, error: Exception) -> WorkFailed:
        """What to raise when this rank's pass failed: the others may have come further."""
        if isinstance(error, WorkFailed):
            return error
        return WorkFailed(
            f"rank {self.rank}'s pass failed: {type(error).__name__}: {_first_line(error)}",
            where=f"rank {self.rank}",
            mend=_MEND,
        )

    def leave(self) -> None:
        """Close the connections; the others notice when they next need this rank."""
        if distributed.is_initialized():
            distributed.destroy_process_group()

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        """Turn what torch raises when others are gone or late into an error for a person."""
        try:
            yield
        except RuntimeError as error:
            raise WorkFailed(
                f"rank {self.rank} of {self.size} waited for {what} of the others in vain: "
                + _first_line(error),
                where=f"rank {self.rank}",
                mend=_MEND,
            ) from error


def _check(parallel: Parallel) -> None:
    if not 0 <= parallel.rank < parallel.size:
        raise ConfigError(
            f"rank {parallel.rank} is not among {parallel.size} processes", mend="count ranks from 0"
        )
    if urlsplit(parallel.rendezvous).scheme not in ("file", "tcp"):
        raise ConfigError(
            f"processes can't meet at {parallel.rendezvous!r}", mend="use file:///PATH or tcp://HOST:PORT"
        )


def _stay_on_this_machine(rendezvous: str) -> None:
    """Let gloo and NCCL use the loopback device only, unless the ranks are on several machines."""
    host = urlsplit(rendezvous).netloc.rpartition(":")[0]
    if not host or host in _LOCAL:
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, loopback)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
