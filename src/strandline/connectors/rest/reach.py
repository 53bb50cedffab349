"""From where an address can be reached, so that an API on the internet does not send us to what only we can reach."""

import ipaddress

__all__ = ["LOCAL", "reach"]

LOCAL, LINK, PRIVATE, EVERYWHERE = range(4)


def reach(address: str) -> int:
    """The greater, the wider: this machine, its link, its private network, everywhere."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if found.is_loopback or found.is_unspecified:
        return LOCAL
    if found.is_link_local:
        return LINK
    return EVERYWHERE if found.is_global else PRIVATE
