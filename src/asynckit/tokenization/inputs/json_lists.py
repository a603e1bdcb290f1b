"""Where the elements of a JSON list lie: quotes and brackets are counted, nothing is parsed."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SPACE = b" \t\r\n\xef\xbb\xbf"  # and the byte-order mark
_CHANGES = bytes(1 if code in b"{[" else 255 if code in b"}]" else 0 for code in range(256))  # 255 is -1


class Elements(NamedTuple):
    """Objects and lists that are elements of the outermost list, or those that are there instead of one.

    Attributes:
        starts: first bytes, int64.
        ends: after the last bytes; only of elements that are complete.
        inside: whether ``data`` lies in a list.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    inside: bool


def elements_of(data: bytes) -> Elements:
    """The elements of a JSON list, from its beginning on or from after any of them on.

    Args:
        data: begins with ``[``, or with the comma or ``]`` after an element; or has objects outside a list.
    """
    first = len(data) - len(data.lstrip(_SPACE))
    beginning = data[first : first + 1]
    depth = 1 if beginning in {b",", b"]"} else 0
    inside = beginning in {b"[", b",", b"]"}
    places, changes = _brackets(data)
    depths = depth + np.cumsum(changes)
    base = 1 if inside else 0
    opening = (changes > 0) & (depths == base + 1)
    closing = (changes < 0) & (depths == base)
    # What follows the end of the list is no element of it.
    over = np.flatnonzero(depths < base)
    last = over[0] if len(over) else len(places)
    return Elements(places[:last][opening[:last]], places[:last][closing[:last]] + 1, inside)


def is_cut_off(data: bytes) -> bool:
    """Whether the list that ``data`` is the last part of goes on after the last element."""
    found = elements_of(data)
    return found.inside and len(found.ends) > 0 and int(found.ends[-1]) == len(data.rstrip(_SPACE))


def _brackets(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Places of the brackets that are in no string, and by how much each changes the depth."""
    if b"\\" in data:
        # Pairs from the left, as they are meant: what is left before a quote is one that hides it.
        data = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    changes = np.frombuffer(data.translate(_CHANGES), np.int8)
    places = np.flatnonzero(changes)
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))
    outside = np.searchsorted(quotes, places) % 2 == 0
    places = places[outside]
    return places, changes[places]
