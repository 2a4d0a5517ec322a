"""The stores: where a room's record is kept."""
