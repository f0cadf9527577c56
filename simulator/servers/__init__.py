"""Real servers for tests, benchmarks and the demo.

Each listens on 127.0.0.1 alone, on a port of its own, keeps its data in a
directory of its own, and ends with whoever started it. What is not installed
is unpacked, without root, from the distribution's packages and the Java
registry into ``.servers/``. `simulator.servers.everything.ServerSet` makes
them; ``python -m simulator.servers`` starts them for people.
"""
