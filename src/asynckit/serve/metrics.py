"""What the server counts and times, as Prometheus text.

The router holds the one :class:`Metrics`: it sees every request, and HTTP servers tell it what they
answered. Names are vLLM's where the meaning is, with ``asynckit:`` in front, so that its dashboards need one
replacement. Clients can't make label values: what isn't among the known ones counts as ``other``.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from asynckit.engine.request import Finish
from asynckit.serve.api.page import FILES
from asynckit.serve.messages import EngineState, Timing

OTHER = "other"
MOST_LABELS = 100  # of owners, processes and codes, which come from the server's own settings and code
ROUTES = frozenset(
    {
        *FILES,
        "/detokenize",
        "/health",
        "/metrics",
        "/openapi.json",
        "/ready",
        "/stats",
        "/tokenize",
        "/update_weights",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/load_lora_adapter",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/unload_lora_adapter",
    }
)

# Buckets as vLLM has them, in seconds; those of requests begin lower, for small models.
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_BETWEEN_TOKENS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST = (
    *(0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_LENGTH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the text, and nobody draws them


class Metrics:
    """Everything that ``/metrics`` shows. Times are seconds. Nothing here raises.

    Args:
        model: what clients call the model.
    """

    def __init__(self, model: str = "") -> None:
        self._registry = CollectorRegistry()
        self._bounded: dict[str, set[str]] = {}
        self._engines: dict[int, _Engine] = {}
        self._queued = 0
        self._gauge("server_info", "1, with what is served.", ("model_name",)).labels(model).set(1)
        self._make_request_metrics()
        self._make_engine_metrics()
        self._make_server_metrics()

    def arrived(self, owner: str, prompt_tokens: int) -> None:
        """A request was taken in."""
        self._arrived.labels(self._bound("owner", owner)).inc()
        self._prompt_tokens.inc(prompt_tokens)

    def started(self, waited: float) -> None:
        """A request went to an engine, so long after it arrived."""
        self._queue_time.observe(max(0.0, waited))

    def first_token(self, seconds: float) -> None:
        """A request has its first token, so long after it arrived."""
        self._first_token.observe(max(0.0, seconds))

    def tokens(self, count: int, seconds: float | None = None) -> None:
        """A step brought ``count`` tokens, ``seconds`` after the engine's step before; None after a rest."""
        self._generated.inc(count)
        if seconds is not None:
            for _ in range(count):
                self._between_tokens.observe(seconds)

    def ended(self, reason: str, timing: Timing, prompt_tokens: int, generated_tokens: int) -> None:
        """A request has ended; what it never came to (``started``, ``first_token``) is 0 in its timing."""
        self._ended[reason if reason in self._ended else OTHER].inc()
        self._whole_time.observe(max(0.0, timing.ended - timing.arrived))
        self._prompt_length.observe(prompt_tokens)
        self._generated_length.observe(generated_tokens)
        if timing.started:
            self._inference_time.observe(max(0.0, timing.ended - timing.started))
        if timing.started and timing.first_token:
            self._prefill_time.observe(max(0.0, timing.first_token - timing.started))
            self._decode_time.observe(max(0.0, timing.ended - timing.first_token))

    def refused(self, status: int, code: str) -> None:
        """A request ended with an error instead of an answer."""
        self._refused.labels(status, self._bound("code", code)).inc()

    def served(self, route: str, status: int, seconds: float) -> None:
        """An HTTP request has been answered; ``route`` is the pattern, such as ``/v1/models/{name}``."""
        route = route if route in ROUTES else OTHER
        self._http.labels(route, status if 100 <= status < 600 else OTHER).inc()
        self._http_time.labels(route).observe(max(0.0, seconds))

    def engine_state(self, replica: int, state: EngineState) -> None:
        """What a replica says of itself after a step."""
        engine = self._engines.get(replica)
        if engine is None:
            engine = self._engines[replica] = _Engine(self, replica)
        engine.show(state)
        self._show_waiting()

    def lost(self, process: str) -> None:
        """A process has died, or was killed because it hung."""
        self._lost.labels(self._bound("process", process)).inc()
        kind, _, ranks = process.partition("-")
        replica = ranks.partition("-")[0]
        if kind == "worker" and replica.isdecimal() and int(replica) in self._engines:
            self._engines[int(replica)].forget()
            self._show_waiting()

    def waiting(self, count: int) -> None:
        """So many requests wait in the router."""
        self._queued = count
        self._show_waiting()

    def adapters(self, running: Iterable[str], waiting: Iterable[str], max_loras: int) -> None:
        """The adapters of the requests of this moment; call it before ``render``."""
        self._loras.clear()
        names = (",".join(sorted(set(each))) for each in (running, waiting))
        self._loras.labels(max_loras, *names).set_to_current_time()

    def render(self) -> str:
        """All of it in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry).decode()

    def _make_request_metrics(self) -> None:
        self._arrived = self._counter("requests", "Requests that were taken in.", ("owner",))
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens in their prompts.")
        self._generated = self._counter("generation_tokens", "Tokens that were sampled.")
        ended = self._counter(
            "request_success", "Requests that ended in an answer, and why it ended.", ("finished_reason",)
        )
        self._ended = {reason: ended.labels(reason) for reason in (*map(str, Finish), OTHER)}
        self._refused = self._counter(
            "requests_refused", "Requests that ended in an error.", ("status", "code")
        )
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token.", _FIRST_TOKEN
        )
        self._between_tokens = self._histogram(
            "inter_token_latency_seconds", "From one token of a sample to the next.", _BETWEEN_TOKENS
        )
        self._whole_time = self._histogram(
            "e2e_request_latency_seconds", "From a request's arrival to its end."
        )
        self._queue_time = self._histogram("request_queue_time_seconds", "From its arrival to an engine.")
        self._inference_time = self._histogram(
            "request_inference_time_seconds", "From an engine's taking it to its end."
        )
        self._prefill_time = self._histogram(
            "request_prefill_time_seconds", "From an engine's taking it to its first token."
        )
        self._decode_time = self._histogram("request_decode_time_seconds", "From its first token to its end.")
        self._prompt_length = self._histogram("request_prompt_tokens", "Length of its prompt.", _LENGTH)
        self._generated_length = self._histogram(
            "request_generation_tokens", "Tokens sampled for it, in all samples.", _LENGTH
        )

    def _make_engine_metrics(self) -> None:
        self.running = self._gauge("num_requests_running", "Samples that an engine works on.", ("engine",))
        self.kv_usage = self._gauge("kv_cache_usage_perc", "Key-value cache in use; 1 is full.", ("engine",))
        self._waiting = self._gauge("num_requests_waiting", "Requests that wait for an engine, or in one.")
        self.counters = {
            field: self._counter(name, text, ("engine",))
            for field, name, text in (
                ("prefilled_tokens", "prefilled_tokens", "Prompt tokens that passed through the model."),
                ("prefix_query_tokens", "prefix_cache_queries", "Tokens looked up in the prefix cache."),
                ("prefix_hit_tokens", "prefix_cache_hits", "Tokens that were found there."),
                ("preemptions", "num_preemptions", "Times that a sample lost its place to another."),
            )
        }
        self._loras = self._gauge(
            "lora_requests_info",
            "When it was so; adapters of the requests, as lists with commas.",
            ("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
        )

    def _make_server_metrics(self) -> None:
        self._http = self._counter("http_requests", "HTTP requests that were answered.", ("route", "status"))
        self._http_time = self._histogram(
            "http_request_duration_seconds", "From its first byte to the answer's last.", _REQUEST, ("route",)
        )
        self._lost = self._counter(
            "process_restarts", "Processes of the server that died, seen by the router.", ("process",)
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"asynckit:{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"asynckit:{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...] = _REQUEST, labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"asynckit:{name}", text, labels, registry=self._registry, buckets=buckets)

    def _bound(self, label: str, value: str) -> str:
        """The value, or ``other`` where there are too many already."""
        known = self._bounded.setdefault(label, set())
        if value not in known and len(known) < MOST_LABELS:
            known.add(value)
        return value if value in known else OTHER

    def _show_waiting(self) -> None:
        self._waiting.set(self._queued + sum(engine.waiting for engine in self._engines.values()))


class _Engine:
    """One replica's gauges and counters, which go on when it is restarted and counts from 0 again."""

    def __init__(self, metrics: Metrics, replica: int) -> None:
        self._running = metrics.running.labels(replica)
        self._kv_usage = metrics.kv_usage.labels(replica)
        self._counters = {field: counter.labels(replica) for field, counter in metrics.counters.items()}
        self._seen = dict.fromkeys(self._counters, 0)
        self.waiting = 0

    def show(self, state: EngineState) -> None:
        self._running.set(state.running)
        self._kv_usage.set(state.kv_usage)
        self.waiting = state.waiting
        for field, counter in self._counters.items():
            now = getattr(state, field)
            before = self._seen[field]
            if now != before:  # most steps change one of them
                counter.inc(now - before if now > before else now)
                self._seen[field] = now

    def forget(self) -> None:
        self._running.set(0)
        self._kv_usage.set(0)
        self.waiting = 0
        self._seen = dict.fromkeys(self._counters, 0)
