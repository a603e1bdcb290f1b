"""Whatever stands in a report that was read, it is either refused or shown."""

import json
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import made_report
from rich.console import Console

from asynckit.bench.formats import FORMATS, render, render_environment
from asynckit.bench.formats.json_file import from_json, to_json
from asynckit.errors import AsynckitError

numbers = st.sampled_from([0, 1, -1, 0.0, 5e-324, 1e-300, 1e300, 1.7e308, 10**30, 10**400])
anything = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container in a document, with each of its keys or indices."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    found = [(document, key) for key, _ in pairs]
    below = [document[key] for _, key in found if isinstance(document[key], (dict, list))]
    return found + [place for each in below for place in _places(each)]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_report_is_refused_or_shown(data: st.DataObject) -> None:
    """In every format; no change makes a bug's traceback of somebody's file."""
    document = json.loads(to_json(made_report(rows=made_report().rows[3:6])))
    places = _places(document)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places))
        container[key] = data.draw(anything)
    try:
        report = from_json(json.dumps(document).encode())
    except AsynckitError:
        return
    for write in FORMATS.values():
        write(report)
    console = Console(width=80, quiet=True)
    for part in [*render(report, 80), render_environment(report)]:
        console.print(part)


def test_a_deep_report_is_refused_or_shown() -> None:
    """Nesting is where readers run out of stack."""
    for depth, (opening, closing) in product((10, 500, 900, 100_000), ("[]", ('{"b":', "}"))):
        text = to_json(made_report(environment={"a": 1})).replace(
            '"a": 1', '"a":' + opening * depth + "1" + closing * depth
        )
        try:
            report = from_json(text.encode())
        except AsynckitError:
            continue
        for write in FORMATS.values():
            write(report)
