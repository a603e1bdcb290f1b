"""One process of a model that several hold together: plays a script on an engine and prints what it heard.

A script is a list of acts, each ``[name, *arguments]``; see :func:`play`. Every rank plays the same one.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asynckit.engine.config import EngineConfig, SamplingParams
from asynckit.engine.engine import Engine
from asynckit.engine.parallel import Parallel
from asynckit.engine.request import Request
from asynckit.errors import AsynckitError
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model

Act = Sequence[Any]
Heard = list[tuple[str, int, int | None, float, str | None]]


def load(folder: str, settings: dict[str, Any], parallel: Parallel | None = None) -> Engine:
    """An engine in float32 on one CPU thread."""
    model = ModelConfig(name=folder)
    config = EngineConfig(
        **{"dtype": "float32", "device": "cpu", "kv_cache_tokens": 4096, "threads": 1, **settings}
    )
    return Engine.load(config, model, resolve_model(model), parallel)


def play(engine: Engine, script: Sequence[Act]) -> Heard:
    """Do what the script says, then step until all is done; events without their times.

    Acts are ``add(id, prompt_ids, sampling, n, adapter)``, ``abort(id)``, ``adapter(name, folder)``,
    ``weights(version, folder, on_update)``, ``embed(prompts_ids)``, ``steps(count)`` and ``say(word)``, which
    prints it and waits for a line.
    """
    heard: Heard = []
    for name, *arguments in [*script, ["steps", None]]:
        if name == "add":
            id_, prompt, sampling, n, adapter = arguments
            engine.add(Request(id_, tuple(prompt), SamplingParams(**sampling), n, adapter=adapter))
        elif name == "abort":
            engine.abort(*arguments)
        elif name == "adapter":
            engine.adapters.register(arguments[0], Path(arguments[1]))
        elif name == "weights":
            engine.update_weights(*arguments)
        elif name == "embed":
            vectors = engine.embed(*arguments)
            heard += [("vector", index, None, sum(vector[:9]), None) for index, vector in enumerate(vectors)]
        elif name == "say":
            _say(arguments[0])
            sys.stdin.readline()
        else:
            heard += _steps(engine, arguments[0])
    return heard


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _steps(engine: Engine, count: int | None) -> Heard:
    heard: Heard = []
    while engine.has_work() and count != 0:
        heard += [(e.request_id, e.sample_index, e.token_id, e.logprob, e.finish) for e in engine.step()]
        count = None if count is None else count - 1
    return heard


def main() -> None:
    """Read ``[{"parallel", "folder", "settings", "script"}…]``, play each, print what was heard as JSON."""
    for job in json.loads(sys.stdin.readline()):
        engine = None
        try:
            engine = load(job["folder"], job["settings"], Parallel(**job["parallel"]))
            answer: Any = play(engine, job["script"])
        except AsynckitError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        finally:
            if engine:
                engine.close()
        _say(answer)


if __name__ == "__main__":
    main()
