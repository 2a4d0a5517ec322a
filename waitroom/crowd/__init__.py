"""Visitors over real HTTP: what a launch brings. There are two crowds.

**Few, with stories** (the demo): ``client.py`` is one connection, ``people.py`` how visitors behave, ``cheats.py`` what
some of them try, ``crowd.py`` all of them together, with the ordinary shoppers beside them. Everybody is a coroutine;
a log of everything seen goes to ``waitroom.checker``.

**Very many, with one story** (``waitroom rehearse``): ``flood.py`` asks on plain sockets, ``answers.py`` finds whole
answers in bytes, ``adapters.py`` reads what a waiting room says, ours or another, ``rehearsal.py`` has the visitors,
``witness.py`` what they saw, ``ordinary.py`` the shoppers beside them in a process of their own, ``staging.py`` the
report. A visitor is a few numbers and a cookie.

Which visitor does what is drawn from a seed; when answers come is the machine's affair.
"""

from waitroom.crowd.crowd import Crowd, Numbers, Plan
from waitroom.crowd.people import Habits, Place

__all__ = ["Crowd", "Habits", "Numbers", "Place", "Plan"]
