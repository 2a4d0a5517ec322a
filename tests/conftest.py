"""What many tests share: the support files beside this one, a shop that remembers, and both event loops.

Those of the data path run on both: uvloop is what production runs on; the standard loop's transports differ from it in
details (when they report an end, when they write), and the data path may rely on neither.
"""

import asyncio

import pytest
import uvloop
from browser import chromium, page  # noqa: F401 - fixtures of the tests of pages
from house import RecordingOrigin


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """Name the event loops a test runs on."""
    if item.path.name.startswith(("test_wire", "test_upstream")):
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def origin():
    """An origin that remembers every request."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()
