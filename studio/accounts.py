"""People who log in: passwords, sessions in a browser, tokens of programs, and how many bad tries there may be.

Passwords are kept as argon2id hashes only. A session is 32 random bytes in a signed cookie, made anew at each login; the
store holds its hash, so logging out, a new password and removal end it at once. Knows no page and no route.
"""

import functools
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ranker.errors import RankingStudioError, UsageError
from studio.permissions import Role
from studio.store import Store
from studio.store.accounts import Account
from studio.store.people import checked_author
from studio.store.records import Annotator
from studio.throttle import Throttle

SESSION_S: Final = 7 * 24 * 3600
MIN_PASSWORD_CHARS: Final = 10
MAX_PASSWORD_CHARS: Final = 1024
TOKEN_PREFIX: Final = "rst_"
KEY_FILE: Final = "session.key"
MAX_TRIES: Final = 5
"""Of one name from one address in 15 minutes."""
MAX_TRIES_OF_ADDRESS: Final = 30
MAX_TRIES_OF_NAME: Final = 50
_MAX_HASHING: Final = 2
"""Passwords hashed at once: each takes 64 MiB."""


class BadLoginError(UsageError):
    """Name and password do not belong together. Which of them is wrong is not said."""


class TooManyTriesError(RankingStudioError):
    """Locked for a while."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"login: tries: too many: wait {-(-wait_s // 60)} min, then try again")
        self.wait_s = wait_s


class Accounts:
    """The people of one store. Callable from any thread."""

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        throttle: Throttle | None = None,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._store = store
        self._key_path = data_dir / KEY_FILE
        self._clock = clock
        self._throttle = throttle or Throttle()
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(_MAX_HASHING)

    def add(self, name: str, role: Role, password: str) -> Account:
        """Make an account. Raises UsageError if the name has one, or the password is too short."""
        return self._store.accounts.add(checked_author(name), role, self._hash(password))

    def set_password(self, name: str, password: str) -> None:
        """Change a password, and log the person out everywhere."""
        self._store.accounts.set_password(name, self._hash(password))

    def remove(self, name: str) -> Annotator:
        """Take a person's name, account, sessions and tokens away; their votes stay, under the name that is returned."""
        return self._store.corrections.forget(name)

    def login(self, name: str, password: str, *, address: str) -> str:
        """Check a password. Returns the cookie of a new session.

        Raises:
            BadLoginError: if name and password do not belong together.
            TooManyTriesError: after too many of those, whatever the password is now.
        """
        name = " ".join(name.split())[:MAX_PASSWORD_CHARS]
        pair = ("pair", name, address)
        limits = [
            (pair, MAX_TRIES),
            (("address", address), MAX_TRIES_OF_ADDRESS),
            (("name", name), MAX_TRIES_OF_NAME),
        ]
        if wait_s := self._throttle.attempt(limits):
            raise TooManyTriesError(wait_s)
        known = self._store.accounts.credentials(name)
        password_hash = self._nobodys_hash if known is None else known.password_hash
        if not self._fits(password_hash, password[:MAX_PASSWORD_CHARS]) or known is None:
            raise BadLoginError("login: name or password: is not right: try again")
        for key, _ in limits:
            self._throttle.forgive(key)
        if self._hasher.check_needs_rehash(password_hash):
            self._store.accounts.set_password(name, self._hash(password), end_sessions=False)
        token = secrets.token_urlsafe(32)
        expires_at = self._now(SESSION_S)
        self._store.accounts.add_session(name, _hashed(token), now=self._now(), expires_at=expires_at)
        return f"{token}.{self._sign(token)}"

    def of_cookie(self, cookie: str) -> Account | None:
        """Whose session a cookie is; None if it is none of ours, has ended, or was revoked."""
        token = self._token_of(cookie)
        return None if token is None else self._store.accounts.of_session(_hashed(token), now=self._now())

    def logout(self, cookie: str) -> None:
        """End the session of a cookie, if it has one."""
        token = self._token_of(cookie)
        if token is not None:
            self._store.accounts.end_session(_hashed(token))

    def make_token(self, name: str, *, days: int = 365) -> str:
        """A bearer token for a program. It is shown once: only its hash is kept."""
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        expires_at = self._now(days * 24 * 3600)
        self._store.accounts.add_token(name, _hashed(token), now=self._now(), expires_at=expires_at)
        return token

    def of_token(self, token: str) -> Account | None:
        """Whose token it is; None if it is none of ours, has ended, or was revoked."""
        return self._store.accounts.of_token(_hashed(token), now=self._now())

    @functools.cached_property
    def _nobodys_hash(self) -> str:
        """Checked where there is no such account, so that both take as long."""
        return self._hash(secrets.token_hex(16))

    def _hash(self, password: str) -> str:
        if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
            raise UsageError(
                f"people: password: has {len(password)} characters: "
                f"choose {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS}, a sentence is good"
            )
        with self._hashing:
            return self._hasher.hash(password)

    def _fits(self, password_hash: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

    def _token_of(self, cookie: str) -> str | None:
        """What was signed, if the signature is ours."""
        token, _, signature = cookie.partition(".")
        fits = hmac.compare_digest(signature.encode(errors="replace"), self._sign(token).encode())
        return token if fits else None

    def _sign(self, token: str) -> str:
        return hmac.new(self._key(), token.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        """The key of this data directory's cookies, made when it is first needed; readable by its owner only."""
        if not self._key_path.is_file():
            part = self._key_path.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}")
            part.touch(mode=0o600)
            part.write_bytes(secrets.token_bytes(32))
            os.link(part, self._key_path) if not self._key_path.exists() else None
            part.unlink()
        return self._key_path.read_bytes()

    def _now(self, later_s: float = 0.0) -> str:
        return (self._clock() + timedelta(seconds=later_s)).isoformat(timespec="microseconds")


def _hashed(token: str) -> str:
    """Tokens are random and long, so a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
