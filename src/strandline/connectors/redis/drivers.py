"""The driver, imported at its first use; see ``strandline.lazy``."""

from typing import TYPE_CHECKING

from strandline.lazy import Lazy

__all__ = ["redis", "redis_backoff", "redis_retry", "redis_sentinel"]

if TYPE_CHECKING:
    import redis
    import redis.backoff as redis_backoff
    import redis.retry as redis_retry
    import redis.sentinel as redis_sentinel
else:
    redis = Lazy("redis")
    redis_backoff = Lazy("redis.backoff")
    redis_retry = Lazy("redis.retry")
    redis_sentinel = Lazy("redis.sentinel")
