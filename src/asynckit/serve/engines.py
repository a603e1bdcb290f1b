"""Which engine a model worker runs."""

from asynckit.engine.protocol import InferenceEngine
from asynckit.engine.simulated import SimulatedEngine
from asynckit.models.resolve import resolve_model
from asynckit.serve.assignment import Assignment


def load_engine(assignment: Assignment) -> InferenceEngine:
    """Load what the assignment asks for; the ranks of one model meet here.

    Raises:
        AsynckitError: it can't be had.
    """
    serve = assignment.serve
    if serve.engine == "simulated":
        return SimulatedEngine.load(assignment.engine, assignment.simulated)
    from asynckit.engine.engine import Engine
    from asynckit.engine.parallel import Parallel

    parallel = None
    if serve.tp > 1:
        rendezvous = f"file://{assignment.rendezvous}"
        parallel = Parallel(
            assignment.rank, serve.tp, rendezvous, serve.step_timeout, load_timeout=serve.start_timeout
        )
    return Engine.load(assignment.engine, assignment.model, resolve_model(assignment.model), parallel)
