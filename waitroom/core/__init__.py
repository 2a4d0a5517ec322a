"""The pure core: no IO, no clock, no chance of its own, no logging."""
