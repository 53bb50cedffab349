"""The campaign: real syncs in processes of their own, killed, suspended and refused, restarted, and compared with a model.

A *world* is everything of one source and one destination that outlives a process; it goes through a series of changes at the
source, with a sync after each. A *case* is one sync of such a series that meets a fault, with its recovery and the comparison.
A *kind* is a kind of fault: ``calls``, ``syscalls``, ``pauses``, ``disks``, ``rejects``, ``workers``.

Authors of plugins subclass ``strandline.testing.campaign.suite.CampaignConformance``. ``make crash`` runs the same kinds over every
built-in source and destination.
"""

__all__: list[str] = []
