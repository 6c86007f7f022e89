"""Accounts in the store: roles, hashes of passwords, and hashes of the sessions and tokens that are in force.

What a browser or a program holds is never stored, only its hash. This module does not know how anything is hashed.
"""

from typing import NamedTuple

from sqlalchemy import CursorResult, delete, select
from sqlmodel import Session, col

from ranker.errors import UsageError
from ranker.schema import Record
from studio.permissions import Role
from studio.store.database import Database
from studio.store.people import annotator_pk, find_annotator
from studio.store.records import NotStoredError, now_utc
from studio.store.tables import AccountTable, AnnotatorTable, SessionTable, TokenTable

PassTable = type[SessionTable] | type[TokenTable]


class Account(Record):
    """A person who can log in."""

    name: str
    role: Role
    created_at: str


class Credentials(NamedTuple):
    """An account and the hash of its password."""

    account: Account
    password_hash: str


class AccountSection:
    """The store's accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, role: Role, password_hash: str) -> Account:
        """Give a person an account; one who has corrected under this name before keeps what they said.

        Raises:
            UsageError: if the name cannot be used, or has an account.
        """
        with self._database.write() as session:
            person = annotator_pk(session, name)
            if session.get(AccountTable, person) is not None:
                raise UsageError(f"people: name: {name!r}: has an account: choose another, or change that one")
            row = AccountTable(annotator_pk=person, role=role.value, password_hash=password_hash, created_at=now_utc())
            session.add(row)
            session.flush()
        return self.get(name)

    def get(self, name: str) -> Account:
        """Raises NotStoredError if nobody of that name has an account."""
        found = self.credentials(name)
        if found is None:
            raise _nobody(name)
        return found.account

    def credentials(self, name: str) -> Credentials | None:
        """The account of a name, if it has one."""
        query = _ACCOUNTS.where(col(AnnotatorTable.name) == name)
        with self._database.read() as session:
            row = session.execute(query).first()
        return None if row is None else Credentials(_account(row), row.password_hash)

    def all(self) -> list[Account]:
        """Every account, in the order in which they were made."""
        with self._database.read() as session:
            return [_account(row) for row in session.execute(_ACCOUNTS.order_by(col(AccountTable.created_at)))]

    def has_admin(self) -> bool:
        """Is there somebody who can look after the others?"""
        return any(account.role is Role.ADMIN for account in self.all())

    def set_password(self, name: str, password_hash: str, *, end_sessions: bool = True) -> None:
        """Change it. Raises NotStoredError if there is no such account."""
        with self._database.write() as session:
            row = _row(session, name)
            row.password_hash = password_hash
            session.add(row)
            if end_sessions:
                session.execute(delete(SessionTable).where(col(SessionTable.annotator_pk) == row.annotator_pk))

    def set_role(self, name: str, role: Role) -> None:
        """Change it, at once for everything that is open. Raises NotStoredError if there is no such account."""
        with self._database.write() as session:
            row = _row(session, name)
            row.role = role.value
            session.add(row)

    def add_session(self, name: str, token_hash: str, *, now: str, expires_at: str) -> None:
        """Let a browser in."""
        self._add_pass(SessionTable, name, token_hash, now, expires_at)

    def add_token(self, name: str, token_hash: str, *, now: str, expires_at: str) -> None:
        """Let a program in."""
        self._add_pass(TokenTable, name, token_hash, now, expires_at)

    def of_session(self, token_hash: str, *, now: str) -> Account | None:
        """Whose session it is, if it is in force."""
        return self._of_pass(SessionTable, token_hash, now)

    def of_token(self, token_hash: str, *, now: str) -> Account | None:
        """Whose token it is, if it is in force."""
        return self._of_pass(TokenTable, token_hash, now)

    def end_session(self, token_hash: str) -> None:
        """Log a browser out."""
        with self._database.write() as session:
            session.execute(delete(SessionTable).where(col(SessionTable.token_hash) == token_hash))

    def revoke_tokens(self, name: str) -> int:
        """End all tokens of a person. Returns how many there were."""
        with self._database.write() as session:
            mine = col(TokenTable.annotator_pk) == _row(session, name).annotator_pk
            done = session.execute(delete(TokenTable).where(mine))
            assert isinstance(done, CursorResult)
            return int(done.rowcount)

    def _add_pass(self, table: PassTable, name: str, token_hash: str, now: str, expires_at: str) -> None:
        with self._database.write() as session:
            session.execute(delete(table).where(col(table.expires_at) <= now))
            person = _row(session, name).annotator_pk
            session.add(table(token_hash=token_hash, annotator_pk=person, created_at=now, expires_at=expires_at))

    def _of_pass(self, table: PassTable, token_hash: str, now: str) -> Account | None:
        query = _ACCOUNTS.join(table, col(table.annotator_pk) == col(AccountTable.annotator_pk))
        query = query.where(col(table.token_hash) == token_hash, col(table.expires_at) > now)
        with self._database.read() as session:
            row = session.execute(query).first()
        return None if row is None else _account(row)


_ACCOUNTS = select(
    col(AnnotatorTable.name), col(AccountTable.role), col(AccountTable.created_at), col(AccountTable.password_hash)
).join(AnnotatorTable, col(AnnotatorTable.id) == col(AccountTable.annotator_pk))


def _account(row: object) -> Account:
    fields = {name: getattr(row, name) for name in ("name", "role", "created_at")}
    return Account.model_validate(fields)


def _row(session: Session, name: str) -> AccountTable:
    person = find_annotator(session, name)
    row = None if person is None else session.get(AccountTable, person.id)
    if row is None:
        raise _nobody(name)
    return row


def _nobody(name: str) -> NotStoredError:
    return NotStoredError(f"people: name: {name[:80]!r}: has no account: `people list` shows who has")
