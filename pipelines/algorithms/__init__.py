"""Image reduction as pure functions on arrays.

No module here knows of the Butler. Arrays are float32 of shape (ny, nx) and
positions zero-based (x, y) unless a docstring says otherwise. Compiled
functions (numba) are cached on disk; where, is the environment's business
(``NUMBA_CACHE_DIR``).
"""
