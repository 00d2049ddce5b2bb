"""Peer engines behind one interface, each in a process and an environment of its own."""
