"""Who is asking: the one place where a request becomes a person. Every route and page about people asks here.

On loopback whoever asks is the person at this machine, and a name is enough. Where the studio is opened to others, the gate
(`studio.gate`) has found out whose session or token it is before any route sees the request.
"""

from typing import Any, Final, NamedTuple

from ranker.errors import UsageError
from studio.permissions import ROLES, Permission, Role
from studio.store.people import checked_author

VISITOR: Final = "studio.visitor"
"""The key of a request's scope under which the gate leaves the `Visitor`."""


class ForbiddenError(UsageError):
    """Somebody asked for what their role does not allow."""


class Visitor(NamedTuple):
    """Whoever sent a request."""

    name: str | None
    """Of their account; None = nobody knows, or a name is enough."""
    role: Role | None
    """None = not logged in."""

    def may(self, permission: Permission) -> bool:
        """Does their role allow it?"""
        return permission is Permission.OPEN if self.role is None else permission in ROLES[self.role]


LOCAL: Final = Visitor(None, Role.ADMIN)
"""The person at this machine."""
ANONYMOUS: Final = Visitor(None, None)


def visitor_of(request: Any) -> Visitor:
    """Who sent it. `request` is Starlette's, or Gradio's around it; what did not pass the gate is anonymous."""
    inner = getattr(request, "request", request)
    visitor = getattr(inner, "scope", {}).get(VISITOR)
    return visitor if isinstance(visitor, Visitor) else ANONYMOUS


def author_of(request: Any, claimed: str) -> str:
    """The name under which the request speaks: its account's, or without accounts the one that it gives itself.

    Args:
        request: as it came.
        claimed: the name that it gives itself; not heard where there is an account.

    Raises:
        UsageError: if the name cannot be used.
    """
    return visitor_of(request).name or checked_author(claimed)


def check_allowed(request: Any, permission: Permission) -> Visitor:
    """Raises ForbiddenError if who sent the request may not do this."""
    visitor = visitor_of(request)
    if not visitor.may(permission):
        raise ForbiddenError(f"people: {refusal(visitor, permission)}")
    return visitor


def refusal(visitor: Visitor, permission: Permission) -> str:
    """Why not, and what to do."""
    if visitor.role is None:
        return "login: none: log in first"
    able = next((role.value for role in Role if permission in ROLES[role]), Role.ADMIN.value)
    return f"role: {visitor.role.value}: may not do this ({permission.value}): ask for the role {able}"
