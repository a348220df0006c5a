"""
Tests over loopback sockets: the whole gateway in this process, real clients before it.

Only what sockets alone can show belongs here; whatever a double can show is tested
beside the module it is about.
"""
