"""Steps in which every sequence decodes, replayed as CUDA graphs.

A decode step of a small model is hundreds of short kernels, and launching them one by one takes the host
longer than the GPU needs to run them. A CUDA graph is launched once for all of them, but it repeats a pass
exactly: same shapes, same addresses. So the pass is captured over static input buffers, once per *bucket*, a
number of rows and a width of the block tables, both rounded up. A step fills the buffers of the smallest
bucket that holds it and replays. Rows that no sequence needs write to a block of the cache that nobody owns,
and their logits are dropped.

What a graph reads at replay is the memory behind the addresses, not what was there at capture. Weights are
updated in place, so the same graphs go on with the new ones; should an address have changed after all, every
graph is captured again.

Shape letters: B rows of the bucket, L width of its block tables times the block size, S sequences, V
    vocabulary.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from asynckit.engine.kv_cache import KVCache
from asynckit.engine.packed_pass import run_packed
from asynckit.engine.plan import Chunk
from asynckit.engine.staging import to_device
from asynckit.engine.torch_attention import TorchBatch

Replay = Callable[[], torch.Tensor]
Capture = Callable[[Replay], Replay]
"""From a function that reads static buffers to one that does the same again and returns the same tensor."""

LARGEST = 2**18  # padded tokens of context; beyond, reading them takes far longer than launching kernels
_WARM_UPS = 2  # libraries allocate and choose their kernels in the first passes, which can't be captured

log = logging.getLogger(__name__)


class CudaCapture:
    """Captures functions as CUDA graphs, which share one pool of memory: only one runs at a time.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Replay) -> Replay:
        """Run ``function`` on a side stream to warm up, then capture it.

        Raises:
            RuntimeError: it does what can't be captured, such as waiting for the GPU.
        """
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        try:
            # The outer context brings the stream back even where ending a failed capture raises.
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    function()
                # Other threads may go on using the GPU meanwhile.
                with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                    output = function()
        finally:  # also what follows a failure must wait for the passes that warmed up
            current.wait_stream(self._stream)

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay


@dataclass(frozen=True)
class Bucket:
    """Sizes that one graph serves: rows of the pass, and blocks per row."""

    rows: int
    width: int


class DecodeGraphs:
    """The graphs of one model.

    Args:
        model: ready to run.
        cache: its KV cache, whose last block belongs to nobody.
        block_size: tokens per block of it.
        most_rows: rows of the largest bucket.
        new_capture: makes what captures; graphs captured by the same one may share memory.
        most_graphs: how many are kept; the one unused for longest goes first.
        adapters_skipped: whether the arithmetic of adapters is left out, so that who has one can be replayed.
    """

    def __init__(
        self,
        model: nn.Module,
        cache: KVCache,
        block_size: int,
        most_rows: int,
        new_capture: Callable[[], Capture],
        most_graphs: int = 32,
        *,
        adapters_skipped: bool = False,
    ) -> None:
        self._model = model
        self._cache = cache
        self._block_size = block_size
        self._most_rows = most_rows
        self._new_capture = new_capture
        self._most_graphs = most_graphs
        self._adapters_skipped = adapters_skipped
        self._capture: Capture | None = new_capture()
        self._graphs: dict[Bucket, _Graph] = {}  # the one unused for longest first
        self._addresses = _addresses(model)

    @property
    def count(self) -> int:
        """How many are kept now."""
        return len(self._graphs)

    def run(self, chunks: Sequence[Chunk]) -> torch.Tensor | None:
        """Logits ``[S, V]`` of a pass, valid until the next one; None if it must run plainly."""
        bucket = self._bucket(chunks)
        if self._capture is None or bucket is None:
            return None
        graph = self._graphs.pop(bucket, None) or _Graph(bucket, self._cache)
        graph.fill(chunks)
        if graph.replay is None:
            try:
                graph.replay = self._capture(lambda: graph.logits(self._model, self._block_size))
            except RuntimeError as error:
                self._give_up(error)
                return None
        self._graphs[bucket] = graph
        if len(self._graphs) > self._most_graphs:
            del self._graphs[next(iter(self._graphs))]
        return graph.replay()[: len(chunks)]

    def weights_changed(self) -> None:
        """Forget all graphs if any weight or buffer of the model has moved."""
        addresses = _addresses(self._model)
        if self._capture is not None and addresses != self._addresses:
            self._graphs.clear()
            # A pool of memory that no graph uses any more can't be used again.
            self._capture = self._new_capture()
        self._addresses = addresses

    def _bucket(self, chunks: Sequence[Chunk]) -> Bucket | None:
        """The smallest that holds the chunks; None if there is none or they don't just decode."""
        if len(chunks) > self._most_rows or not all(map(self._replayable, chunks)):
            return None
        rows = min(_power_of_two(len(chunks)), self._most_rows)
        width = _power_of_two(max(len(chunk.sequence.blocks) for chunk in chunks))
        return Bucket(rows, width) if rows * width * self._block_size <= LARGEST else None

    def _replayable(self, chunk: Chunk) -> bool:
        return _decodes(chunk) and (chunk.sequence.adapter is None or self._adapters_skipped)

    def _give_up(self, error: RuntimeError) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning("CUDA graphs can't be captured, so decoding goes on without them: %s", reason)
        self._graphs.clear()
        self._capture = None


class _Graph:
    """One bucket's static buffers: views of one tensor, filled in one copy."""

    def __init__(self, bucket: Bucket, cache: KVCache) -> None:
        self._bucket = bucket
        self._cache = cache
        self._spare = cache.keys.shape[1] - 1
        rows = bucket.rows
        self._buffer = torch.empty(rows * (2 + bucket.width), dtype=torch.long, device=cache.keys.device)
        self._token_B, self._position_B = self._buffer[: 2 * rows].view(2, rows)
        self._blocks_BL = self._buffer[2 * rows :].view(rows, bucket.width)
        self.replay: Replay | None = None

    def fill(self, chunks: Sequence[Chunk]) -> None:
        """Put a pass into the buffers."""
        rows, width = self._bucket.rows, self._bucket.width
        host = np.zeros(rows * (2 + width), dtype=np.int64)
        host[: len(chunks)] = [chunk.sequence.tokens[chunk.start] for chunk in chunks]
        host[rows : rows + len(chunks)] = [chunk.start for chunk in chunks]
        blocks_BL = host[2 * rows :].reshape(rows, width)
        for row, chunk in enumerate(chunks):
            blocks = chunk.sequence.blocks
            # As in TorchBatch.of, a row's table is padded with a block of its own.
            blocks_BL[row] = blocks[0]
            blocks_BL[row, : len(blocks)] = blocks
        blocks_BL[len(chunks) :] = self._spare
        device = self._buffer.device
        self._buffer.copy_(to_device(torch.from_numpy(host), device))

    def logits(self, model: nn.Module, block_size: int) -> torch.Tensor:
        """The pass that is captured: logits ``[B, V]`` of what is in the buffers."""
        batch = TorchBatch.decoding(self._cache, block_size, self._position_B, self._blocks_BL)
        return run_packed(model, self._token_B, self._position_B, batch)


def _decodes(chunk: Chunk) -> bool:
    """Whether a chunk is one row that samples, whose prompt is not scored."""
    return chunk.length == 1 and chunk.samples and not chunk.sequence.needs_all_rows


def _power_of_two(number: int) -> int:
    """The smallest that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def _addresses(model: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
