"""What an operator types: ``status`` and ``room``, which ask a running house, and ``explain``.

``operating`` is what an operator types and what it becomes, ``client`` carries it to the admin listener, ``showing``
puts a room into lines.

``explain`` asks nobody: it tells from a configuration what would become of a request.
"""
