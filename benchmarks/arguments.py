"""Arguments that the scripts share."""

import argparse
from collections.abc import Callable, Sequence


def choice(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names that have to be among the ``known``."""

    def names(text: str) -> list[str]:
        unknown = sorted(set(text.split(",")) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not in {', '.join(known)}")
        return text.split(",")

    return names
