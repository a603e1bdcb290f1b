"""What replicas ask of Ray, and whether there is so much."""

from collections.abc import Mapping
from typing import Any

from asynckit.engine.config import EngineConfig
from asynckit.errors import DependencyError
from asynckit.rollout.config import RolloutConfig


def replica_resources(
    engine: EngineConfig, rollout: RolloutConfig, nodes: list[dict[str, Any]]
) -> dict[str, float]:
    """What one replica asks Ray for.

    As configured, else an equal share of the CPUs, and one GPU where there are any and it computes.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    total = sum(resources.get("CPU", 0.0) for resources in alive)
    largest = max(resources.get("CPU", 0.0) for resources in alive)
    computes = engine.device != "cpu" and rollout.engine not in ("simulated", "openai")
    gpus = computes and any(resources.get("GPU") for resources in alive)
    share = min(total / rollout.replicas, largest)
    return {
        "num_cpus": rollout.cpus_per_replica or (float(int(share)) if share >= 1 else share),
        "num_gpus": float(gpus) if rollout.gpus_per_replica is None else rollout.gpus_per_replica,
    }


def refuse_impossible(engine: EngineConfig, rollout: RolloutConfig) -> None:
    """Say at once that this machine can't hold the replicas; a cluster may still grow, a machine won't.

    Raises:
        DependencyError: the replicas ask for more than there is.
    """
    import ray

    wanted = replica_resources(engine, rollout, ray.nodes())
    refuse_shortage(wanted, ray.cluster_resources(), rollout.replicas)


def refuse_shortage(wanted: Mapping[str, float], there: Mapping[str, float], replicas: int) -> None:
    """Refuse replicas that each want more than their share of what there is.

    Args:
        wanted: what :func:`replica_resources` says.
        there: Ray's names and amounts.
        replicas: how many.

    Raises:
        DependencyError: they ask for more than there is.
    """
    for name, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        need = wanted[name] * replicas
        if need > there.get(resource, 0.0) + 1e-6:
            raise DependencyError(
                f"{replicas} replicas need {need:g} {resource}s, this machine offers "
                f"{there.get(resource, 0.0):g}",
                where=f"rollout.{resource.lower()}s_per_replica",
                mend="ask for fewer, or join a cluster with ray.address",
            )
