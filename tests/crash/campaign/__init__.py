"""`make crash`: real syncs, killed by a real SIGKILL and hit by other faults, restarted, and compared with a model.

A *cell* is a source, a destination and a write mode. A *world* is everything of one cell that outlives a process; it goes
through a series of changes at the source, with a sync after each. A *case* is one sync of such a series that meets a
fault, with its recovery and the comparison. A *kind* is a kind of fault.
"""
