"""The tasks of a source over data that it can read."""

from strandline.source import Source, Task, TaskFailure

__all__ = ["offered"]


def offered(source: Source) -> list[Task]:
    """Those of all its tables; none of them fails."""
    found = list(source.tasks(source.tables()))
    failed = [one for one in found if isinstance(one, TaskFailure)]
    assert not failed, f"cannot be read: {failed}"
    return [one for one in found if isinstance(one, Task)]
