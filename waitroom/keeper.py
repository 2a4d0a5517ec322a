"""The keeper: the one process that keeps the record, and the only one that writes it.

Started by the supervisor as ``python -m waitroom.keeper STORE-FD CONTROL-FD``, and by nobody else. Workers reach it
through the store socket, which outlives it: while one keeper is replaced by the next their calls wait in the backlog.
It ends when it is told, after the last worker.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING

from waitroom import tether
from waitroom.build import build_keeper

if TYPE_CHECKING:
    import socket

    from waitroom.channel import Orders


GARBAGE = 5_000
"""New objects between two looks of the collector."""


async def serve(orders: Orders, store: socket.socket, tied: tether.Tether) -> None:
    """Keep the record until told to stop."""
    keeper = await build_keeper(orders.settings, orders.secret_keys, store)
    # The record stays as long as the process, and a batch of joins makes thousands of objects that go by themselves.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    serving = asyncio.ensure_future(keeper.serve())

    async def configure(changed: Orders) -> None:
        await keeper.configure(changed.settings, changed.secret_keys)

    tied.hold(lambda _: serving.cancel(), keeper.stats, serves=lambda: True, configure=configure)
    try:
        await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()  # it does not end by itself unless it failed
    finally:
        await keeper.close()
        await tied.let_go()


if __name__ == "__main__":
    sys.exit(tether.run(serve))
