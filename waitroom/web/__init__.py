"""The rim that speaks HTTP: the wire, the desk that decides, the pages."""
