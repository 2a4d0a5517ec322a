"""Waitroom: a reverse proxy that lets a crowd into a shop in order."""
