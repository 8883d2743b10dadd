"""How many connections each user has, so that one cannot take them all."""

from __future__ import annotations

from attrs import define, field


@define(eq=False)
class Users:
    """The users who are connected. Anonymous connections (None) are not counted: an address is all that is known.

    Attributes:
        limit: connections that one user may have; may be changed at any time, who is in stays in.
        refused: connections that were refused for it so far.
    """

    limit: int = 100
    refused: int = 0
    _connections: dict[str, int] = field(factory=dict, repr=False)  # {user: how many}

    def __len__(self) -> int:
        return len(self._connections)

    def connections(self, user: str) -> int:
        """Return how many a user has."""
        return self._connections.get(user, 0)

    def enter(self, user: str | None) -> bool:
        """Count a connection that has introduced itself; False, and nothing counted, if the user has enough."""
        if user is None:
            return True
        count = self._connections.get(user, 0)
        if count >= self.limit:
            self.refused += 1
            return False
        self._connections[user] = count + 1
        return True

    def leave(self, user: str | None) -> None:
        """Forget a connection that `enter` has counted."""
        if user is None:
            return
        count = self._connections[user] - 1
        if count:
            self._connections[user] = count
        else:
            del self._connections[user]
