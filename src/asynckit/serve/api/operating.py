"""Routes for whoever runs the server: adapters, weights, health, metrics, statistics."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from starlette.responses import Response

from asynckit.errors import InputError
from asynckit.serve.adapters import allowed_folder, check_name
from asynckit.serve.api.errors import ApiError, JsonResponse, unavailable
from asynckit.serve.api.schemas.other import LoadAdapterRequest, UnloadAdapterRequest, UpdateWeightsRequest
from asynckit.serve.api.service import Service
from asynckit.serve.control_messages import Facts
from asynckit.serve.messages import GetMetrics, GetState, LoadAdapter, State, UnloadAdapter, UpdateWeights
from asynckit.serve.streams import new_id

HEALTH_SECONDS = 5.0  # in which a probe must have passed through the ring
STATE_SECONDS = 15.0


async def load_adapter(service: Service, body: LoadAdapterRequest) -> Response:
    """Let requests name an adapter; raises ApiError."""
    _check_lora(service)
    if problem := check_name(body.lora_name, service.model):
        raise ApiError(400, problem, param="lora_name")
    folder = await _allowed(body.lora_path, service.adapter_roots, "lora_path")
    call = LoadAdapter(new_id(), service.home, body.lora_name, str(folder))
    await service.call(call, service.settings.request_timeout)
    return JsonResponse({"message": f"adapter {body.lora_name!r} is loaded"})


async def unload_adapter(service: Service, body: UnloadAdapterRequest) -> Response:
    """Let requests name an adapter no more; raises ApiError."""
    _check_lora(service)
    call = UnloadAdapter(new_id(), service.home, body.lora_name)
    await service.call(call, service.settings.request_timeout)
    return JsonResponse({"message": f"adapter {body.lora_name!r} is unloaded"})


def _check_lora(service: Service) -> None:
    if not service.settings.lora:
        raise ApiError(400, "adapters are switched off (serve.lora=false)", code="no_lora")


async def update_weights(service: Service, body: UpdateWeightsRequest) -> Response:
    """Sample with other weights from now on; raises ApiError."""
    folder = await _allowed(body.path, service.weights_roots, "path")
    call = UpdateWeights(new_id(), service.home, body.version, str(folder), body.on_update)
    await service.call(call, service.settings.request_timeout)
    return JsonResponse({"message": f"the weights have version {body.version}"})


async def _allowed(folder: str, roots: Sequence[Path], param: str) -> Path:
    try:
        return await asyncio.to_thread(allowed_folder, folder, roots)
    except InputError as error:
        raise ApiError(403, str(error), code="folder_not_allowed", param=param) from error


async def state_of(service: Service, seconds: float = STATE_SECONDS) -> State:
    """Where the server stands; raises ApiError where the ring doesn't say in time."""
    answered = await service.call(GetState(new_id(), service.home), seconds)
    assert answered.state
    return answered.state


class HealthProbe:
    """Sends probes through the ring, one at a time however many ask: the route is open to everybody."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._probing: asyncio.Task[State] | None = None

    async def answer(self) -> Response:
        """200 when a probe has come back, with a replica to serve requests; raises ApiError otherwise."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(state_of(self._service, HEALTH_SECONDS))
        try:
            state = await asyncio.shield(self._probing)
        except ApiError as error:
            raise unavailable(f"the server is not well: {error.message}", code="unhealthy") from error
        if not state.replicas_ready:
            raise unavailable("the server is not well: no replica is ready", code="unhealthy")
        return JsonResponse({"status": "ok"})


async def ready(service: Service, probe: HealthProbe) -> Response:
    """Whether requests are taken; raises ApiError where they are not."""
    service.loaded_facts()
    await probe.answer()
    return JsonResponse({"ready": True})


async def metrics(service: Service) -> Response:
    """All metrics; raises ApiError where the ring doesn't answer."""
    answered = await service.call(GetMetrics(new_id(), service.home), STATE_SECONDS)
    return Response(answered.text or "", media_type="text/plain; version=0.0.4; charset=utf-8")


async def stats(service: Service) -> Response:
    """The same for people and the page."""
    state = await state_of(service)
    shown = msgspec.structs.asdict(state)
    shown["adapters"] = [{"name": adapter.name} for adapter in state.adapters]
    return JsonResponse({**shown, "open_requests": len(service.streams), "model": service.model})


async def models(service: Service) -> Response:
    """The model and its adapters."""
    facts, state = service.loaded_facts(), await state_of(service)
    names = [service.model, *(adapter.name for adapter in state.adapters)]
    return JsonResponse({"object": "list", "data": [_card(service, facts, name) for name in names]})


async def model(service: Service, name: str) -> Response:
    """One of them; raises ApiError for an unknown name."""
    facts, state = service.loaded_facts(), await state_of(service)
    if name != service.model and all(adapter.name != name for adapter in state.adapters):
        raise ApiError(404, f"there is no model {name[:256]!r}", code="model_not_found", param="model")
    return JsonResponse(_card(service, facts, name))


def _card(service: Service, facts: Facts, name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "asynckit",
        "root": service.model,
        "parent": None if name == service.model else service.model,
        "max_model_len": facts.max_model_len,
    }
