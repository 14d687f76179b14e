"""The threaded client: one thread owns the connections, another runs the callbacks."""
