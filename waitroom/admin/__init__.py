"""The operators' own listener: the rooms, the verbs, the metrics, behind one token.

``server`` serves it in the supervisor's event loop; ``door`` says who may speak at all; ``api`` answers; ``facts`` and
``metrics`` say how a room looks; ``token`` keeps the token. None of it is on a visitor's way: the supervisor asks the
store over the same socket as the workers, and everything goes on without it.
"""
