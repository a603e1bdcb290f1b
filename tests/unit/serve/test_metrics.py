"""Metrics: the text is Prometheus', the numbers are those of what happened, the labels are few."""

import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from asynckit.serve.messages import EngineState, Timing
from asynckit.serve.metrics import MOST_LABELS, ROUTES, Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
# What https://prometheus.io/docs/instrumenting/exposition_formats/ allows in a line.
LINE = re.compile(
    r"# HELP [a-zA-Z_:][a-zA-Z0-9_:]* .*"
    r"|# TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|gauge|histogram|summary|untyped)"
    r'|[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\"n])*"'
    r'(,[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\"n])*")*\})? (\+Inf|-Inf|NaN|[-+0-9.e]+)'
)


def samples(metrics: Metrics) -> Samples:
    return {
        (sample.name.removeprefix("asynckit:"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def state(running: int = 0, *, waiting: int = 0, prefilled: int = 0, hits: int = 0) -> EngineState:
    return EngineState(
        running=running,
        waiting=waiting,
        kv_usage=running / 8,
        prefilled_tokens=prefilled,
        prefix_query_tokens=2 * hits,
        prefix_hit_tokens=hits,
        preemptions=0,
        has_work=running > 0,
        version=0,
    )


def test_a_request_is_timed_in_each_of_its_phases() -> None:
    """Waiting, prefill, decode and the whole are the differences of the moments of its timing."""
    metrics = Metrics("tiny")
    metrics.arrived("alice", 7)
    metrics.started(1.0)
    metrics.first_token(1.5)
    metrics.tokens(1)
    metrics.tokens(1, 2.0)
    metrics.ended("stop", Timing(10.0, 11.0, 11.5, 13.5), 7, 2)
    sums = {
        "request_queue_time_seconds": 1.0,
        "time_to_first_token_seconds": 1.5,
        "inter_token_latency_seconds": 2.0,
        "request_prefill_time_seconds": 0.5,
        "request_decode_time_seconds": 2.0,
        "request_inference_time_seconds": 2.5,
        "e2e_request_latency_seconds": 3.5,
        "request_prompt_tokens": 7.0,
        "request_generation_tokens": 2.0,
    }
    assert {name: value(metrics, f"{name}_sum") for name in sums} == sums
    assert {name: value(metrics, f"{name}_count") for name in sums} == dict.fromkeys(sums, 1.0)
    assert value(metrics, "request_queue_time_seconds_bucket", le="0.8") == 0
    assert value(metrics, "request_queue_time_seconds_bucket", le="1.0") == 1
    assert value(metrics, "requests_total", owner="alice") == 1
    assert value(metrics, "prompt_tokens_total") == 7
    assert value(metrics, "generation_tokens_total") == 2
    assert value(metrics, "request_success_total", finished_reason="stop") == 1
    assert value(metrics, "request_success_total", finished_reason="length") == 0
    assert value(metrics, "server_info", model_name="tiny") == 1


def test_a_request_that_never_started_has_no_phases() -> None:
    """An abort in the queue must not count as a prefill of a whole clock's length."""
    metrics = Metrics()
    metrics.ended("abort", Timing(10.0, 0.0, 0.0, 12.0), 7, 0)
    assert value(metrics, "e2e_request_latency_seconds_sum") == 2
    for phase in ("prefill", "decode", "inference"):
        assert value(metrics, f"request_{phase}_time_seconds_count") == 0
    metrics.ended("abort", Timing(10.0, 11.0, 0.0, 12.0), 7, 0)
    assert value(metrics, "request_inference_time_seconds_sum") == 1
    assert value(metrics, "request_decode_time_seconds_count") == 0


def test_counters_of_an_engine_survive_its_restart() -> None:
    """A new worker counts from 0; the server's counters only grow, and the gauges fall to 0 in between."""
    metrics = Metrics()
    metrics.engine_state(0, state(4, waiting=2, prefilled=100, hits=10))
    metrics.engine_state(1, state(1, prefilled=5))
    metrics.engine_state(0, state(3, waiting=1, prefilled=130, hits=10))
    metrics.waiting(5)
    assert value(metrics, "num_requests_waiting") == 6
    assert value(metrics, "kv_cache_usage_perc", engine="0") == 3 / 8
    metrics.lost("worker-0-1")
    assert value(metrics, "num_requests_running", engine="0") == 0
    assert value(metrics, "num_requests_running", engine="1") == 1
    assert value(metrics, "num_requests_waiting") == 5
    metrics.engine_state(0, state(1, prefilled=131, hits=1))
    assert value(metrics, "prefilled_tokens_total", engine="0") == 261
    assert value(metrics, "prefix_cache_hits_total", engine="0") == 11
    assert value(metrics, "prefix_cache_queries_total", engine="0") == 22
    assert value(metrics, "process_restarts_total", process="worker-0-1") == 1
    for other in ("http-0", "detokenizer", "worker-", "worker-x-0", "worker-7-0"):
        metrics.lost(other)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans()), max_size=8
    )
)
def test_counters_never_fall(states: list[tuple[int, int, int, bool]]) -> None:
    """Prometheus takes a fall for a restart of the whole server, and rates jump."""
    metrics, before = Metrics(), 0.0
    for running, prefilled, hits, dies in states:
        metrics.engine_state(0, state(running, prefilled=prefilled, hits=hits))
        if dies:
            metrics.lost("worker-0-0")
        now = value(metrics, "prefilled_tokens_total", engine="0")
        assert now >= before
        before = now


@given(st.lists(st.tuples(st.text(), st.integers(-5, 2000)), max_size=20))
def test_clients_cannot_make_label_values(requests: list[tuple[str, int]]) -> None:
    """Whoever could would fill the memory of the server and of Prometheus."""
    metrics = Metrics()
    for route, status in requests:
        metrics.served(route, status, 0.1)
        metrics.ended(route, Timing(0.0, 0.0, 0.0, 0.0), 0, 0)
    routes = {dict(labels).get("route") for _, labels in samples(metrics)} - {None}
    assert routes <= ROUTES | {"other"}
    reasons = {dict(labels).get("finished_reason") for _, labels in samples(metrics)} - {None}
    assert reasons == {"stop", "length", "abort", "error", "other"}


def test_even_values_from_inside_are_bounded() -> None:
    """A mistake elsewhere (an id as an owner or a code) costs a fixed amount of memory."""
    metrics = Metrics()
    for index in range(3 * MOST_LABELS):
        metrics.arrived(f"owner-{index}", 1)
        metrics.refused(429, f"code-{index}")
    owners = {dict(labels)["owner"] for name, labels in samples(metrics) if name == "requests_total"}
    assert len(owners) == MOST_LABELS + 1
    assert value(metrics, "requests_total", owner="other") == 2 * MOST_LABELS
    assert value(metrics, "requests_refused_total", status="429", code="other") == 2 * MOST_LABELS


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_prometheus_accepts_every_line(model: str, owner: str, adapters: list[str]) -> None:
    """Names from settings are escaped; no line is anything else than the format allows."""
    metrics = Metrics(model)
    metrics.arrived(owner, 3)
    metrics.served("/v1/models", 200, 0.01)
    metrics.engine_state(0, state(1))
    metrics.adapters(adapters, [], 4)
    text = metrics.render()
    assert text.endswith("\n")
    assert [line for line in text.removesuffix("\n").split("\n") if not LINE.fullmatch(line)] == []
    assert value(metrics, "server_info", model_name=model) == 1


def test_only_the_adapters_of_now_are_shown() -> None:
    """Sets of adapters that were in use once would pile up for ever."""
    metrics = Metrics()
    metrics.adapters(["b", "a", "b"], ["c"], 8)
    metrics.adapters(["a"], [], 8)
    shown = [dict(labels) for name, labels in samples(metrics) if name == "lora_requests_info"]
    assert shown == [{"max_lora": "8", "running_lora_adapters": "a", "waiting_lora_adapters": ""}]
