"""Visitors over real HTTP: what a launch brings, small enough for one process.

``client.py`` is one connection, ``people.py`` how visitors behave, ``cheats.py`` what some of them try, ``crowd.py``
all of them together, with the ordinary shoppers beside them. Everything seen goes into a log that ``waitroom.checker``
reads. Which visitor does what is drawn from a seed; when answers come is the machine's affair.
"""

from waitroom.crowd.crowd import Crowd, Numbers, Plan
from waitroom.crowd.people import Habits, Place

__all__ = ["Crowd", "Habits", "Numbers", "Place", "Plan"]
