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
        patience = serve.step_timeout / 2  # a rank says that another hangs before it counts as hung itself
        parallel = Parallel(assignment.rank, serve.tp, rendezvous, patience, serve.start_timeout)
    local = resolve_model(assignment.model)
    return Engine.load(assignment.engine, assignment.model, local, parallel, grammars_tried=True)
