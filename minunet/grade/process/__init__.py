"""The process in which a student's code runs, and our end of it: inputs go out, outputs come back, nothing else.

child.py      the student's process; guard.py: the audit hook in it; confine.py: what it gives up; wire.py: how we talk
cells.py      of a notebook what an exercise's functions need; inside.py: the same in our own process, where there is no other
callbacks.py  the functions of an exercise that a student's process may call
runner.py     our end of it; pipes.py: its pipes; isolation.py: by what the operating system keeps it from everything else
calls.py      one call: what was handed over, and must not have changed
"""
