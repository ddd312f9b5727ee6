"""How objects with an address come out of a pickle."""

from typing import Any, Dict


def reopen(kind: Any, address: str, options: Dict[str, Any]) -> Any:
    """Open an object of this class by its address."""
    return kind.open(address, **options)
