"""A run of the benchmark that ends before its end."""

from asynckit.bench.config import BenchConfig
from asynckit.bench.run import run_suite
from asynckit.bench.running import STOPPED
from asynckit.engine.config import EngineConfig
from asynckit.models.config import ModelConfig


def test_what_was_measured_before_ctrl_c_is_kept() -> None:
    """A suite may take minutes; nobody wants to lose them."""

    def interrupt(done: int, _count: int, _key: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    report = run_suite(
        ["copy 64KiB", "read 64KiB", "h2d"],
        model=ModelConfig(),
        engine=EngineConfig(),
        config=BenchConfig(device="cpu", max_seconds=0.05, warmup_seconds=0.01),
        lora_compute=True,
        settings={},
        told=interrupt,
    )
    first, *others = report.rows
    assert first.timing is not None
    assert len(others) > 1
    assert {row.reason for row in others} == {STOPPED}
