"""The commands that ask a running house: ``status`` and ``room``.

``operating`` is what an operator types and what it becomes, ``client`` carries it to the admin listener, ``showing``
puts a room into lines.
"""
