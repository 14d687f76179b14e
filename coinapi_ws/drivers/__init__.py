"""Thin drivers that move bytes between sockets and the pure core."""
