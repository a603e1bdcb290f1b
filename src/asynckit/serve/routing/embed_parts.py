"""An embedding call in parts, each small enough that generation does not wait long for it."""

from collections.abc import Iterator

import msgspec

from asynckit.serve.messages import Embed


def parts(embed: Embed, most_tokens: int) -> Iterator[Embed]:
    """Calls with the same prompts in order: each has one prompt, or several of ``most_tokens`` together."""
    group: list[tuple[int, ...]] = []
    tokens = number = 0
    for ids in embed.prompts_ids:
        if group and tokens + len(ids) > most_tokens:
            yield _part(embed, number, group)
            group, tokens, number = [], 0, number + 1
        group.append(ids)
        tokens += len(ids)
    yield _part(embed, number, group)


def _part(embed: Embed, number: int, prompts_ids: list[tuple[int, ...]]) -> Embed:
    return msgspec.structs.replace(embed, id=f"{embed.id}/{number}", prompts_ids=tuple(prompts_ids))
