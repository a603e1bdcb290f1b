"""The detokenizer: takes tokens from the router, gives text to the HTTP servers.

::

    router ── ToDetokenizer ──> take_messages ──> OpenTexts ──> Homes ── ToHttp ──> HTTP server i
    supervisor ── Peers, Lost, Stop ──> hear ──────^──────────────^

=============  =============  =======================  =======================================
task           consumes       produces                 waits on
=============  =============  =======================  =======================================
take_messages  ToDetokenizer  text, answers            its inbox
hear           ToProcess      connections, forgetting  the supervisor
to http-i      its queue      ToHttp                   its queue, HTTP server i
=============  =============  =======================  =======================================

What text is, is decided in :mod:`asynckit.serve.texts`. A request whose router or HTTP server is lost is
forgotten: whoever lost it tells the client.
"""

import asyncio
import os

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.serve.assignment import Assignment
from asynckit.serve.control_messages import Drain, Lost, Peers, Stop
from asynckit.serve.homes import Homes
from asynckit.serve.member import Member
from asynckit.serve.messages import Begin, ToDetokenizer, Tokens
from asynckit.serve.sockets import Inbox, Sockets
from asynckit.serve.stopping import tasks_beside
from asynckit.serve.texts import OpenTexts


async def run_detokenizer(assignment: Assignment) -> int:
    """Be the detokenizer until the supervisor says stop; returns the exit code.

    Raises:
        AsynckitError: the tokenizer can't be loaded.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # windows are short: threads would only cost the engine
    async with Sockets(assignment.place) as sockets, Member(sockets, assignment) as member:
        tokenizer = await asyncio.to_thread(LightTokenizer.load, assignment.model)
        texts = OpenTexts(tokenizer)
        inbox: Inbox[ToDetokenizer] = sockets.inbox(assignment.unique_name, ToDetokenizer)
        async with tasks_beside() as tasks:
            homes = Homes(sockets, tasks)
            tasks.create_task(_take_messages(inbox, texts, homes), name="take messages")
            await member.ready(inbox.address)
            await _hear(member, texts, homes)
    return 0


async def _take_messages(inbox: Inbox[ToDetokenizer], texts: OpenTexts, homes: Homes) -> None:
    while True:
        message = await inbox.receive()
        match message:
            case Begin():
                texts.begin(message)
            case Tokens():
                for home, some in texts.step(message).items():
                    homes.send(home, some)
            case _:  # Refused or Answered
                texts.end(message.id)
                homes.send(message.home, message)


async def _hear(member: Member, texts: OpenTexts, homes: Homes) -> None:
    """Follow who comes and goes, until the end."""
    while True:
        match await member.hear():
            case Peers() as peers:
                homes.connect({peers.unique_name(name): peers.addresses[name] for name in peers.addresses})
            case Lost("router", _, generation):
                texts.end_router(generation)
            case Lost() as lost:
                texts.end_home(lost.unique_name)
                homes.lose(lost.unique_name)
            case Drain():
                pass  # what runs may end, and nothing new comes
            case Stop():
                return
