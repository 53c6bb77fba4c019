"""How fast exports run and how much memory they take, next to other ways of making them.

`python -m benchmarks` measures each case in a fresh process; `pytest benchmarks --benchmark-only` times single
stages in memory.
"""
