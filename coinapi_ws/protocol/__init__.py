"""The pure core: no socket, no clock, no thread, no log, no randomness of its own. Time and bytes are passed in."""
