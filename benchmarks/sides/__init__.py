"""Who is compared: each module does the work in `run(work)` and says what it did.

A side imports only what it needs, since the memory of its process is measured: no side imports another, and nothing but
`apart.py` imports a side.
"""
