"""Our client to the origin: streaming, callbacks instead of tasks, and a pool without a scan.

``Origin.send`` starts an ``Exchange`` and tells a ``Sink`` what comes of it. Written for one job, forwarding: it
follows no redirects, decodes no content and holds no body.
"""

from waitroom.upstream.exchange import Exchange, Sink
from waitroom.upstream.framing import Answer
from waitroom.upstream.pool import Origin

__all__ = ["Answer", "Exchange", "Origin", "Sink"]
