"""`people`: accounts for a studio that is open to others. Passwords are read from a prompt or from standard input."""

import argparse
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, open_store, read_settings
from studio.cli.output import print_json, print_table

if TYPE_CHECKING:
    from studio.accounts import Accounts
    from studio.store import Store

_ROLES = ("annotator", "researcher", "admin")


def add_parser(commands: Any) -> None:
    """Add the group to the command line."""
    group = commands.add_parser(
        "people",
        help="accounts: who may use a studio that is open to others",
        description="Accounts. They are needed when the studio listens to other machines (`serve --host`) or is started\n"
        "with `serve --accounts`. Annotators rank and correct; researchers also import, train, evaluate and export; admins\n"
        "also delete, promote models and look after people.",
        epilog=example("people add ann --role admin"),
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, words: str, *examples: str, person: bool = True) -> Any:
        parser = actions.add_parser(name, help=words, description=words.capitalize() + ".", epilog=example(*examples))
        if person:
            parser.add_argument("name", metavar="NAME")
        add_data_dir(parser)
        add_json(parser)
        return parser

    add = action("add", "make an account; the password is asked for, or read from standard input",
                 "people add ann --role admin", "people add bob")  # fmt: skip
    add.add_argument("--role", choices=_ROLES, default="annotator")
    add.set_defaults(run=add_person)
    role = action("role", "change what somebody may do", "people role bob researcher")
    role.add_argument("role", choices=_ROLES)
    role.set_defaults(run=change_role)
    action("password", "set a new password, and log out everywhere", "people password bob").set_defaults(
        run=change_password
    )
    token = action("token", "make a token for a program, or take all of them back",
                   "people token bob --days 30", "people token bob --revoke")  # fmt: skip
    token.add_argument("--days", type=int, default=365, help="how long it is good for (default: 365)")
    token.add_argument("--revoke", action="store_true", help="take back all tokens of this person")
    token.set_defaults(run=make_token)
    remove = action(
        "remove", "take a person's name and account away; what they said stays, without their name", "people remove bob"
    )
    remove.set_defaults(run=remove_person)
    action("list", "list the accounts", "people list --json", person=False).set_defaults(run=list_people)


def add_person(arguments: argparse.Namespace) -> int:
    """`people add`"""
    from studio.permissions import Role

    with _opened(arguments) as (_, accounts):
        account = accounts.add(arguments.name, Role(arguments.role), _read_password())
    _say(
        arguments,
        {"name": account.name, "role": account.role.value},
        f"{account.name}: {account.role.value}, can log in",
    )
    return 0


def change_role(arguments: argparse.Namespace) -> int:
    """`people role`"""
    from studio.permissions import Role

    with _opened(arguments) as (store, _):
        store.accounts.set_role(arguments.name, Role(arguments.role))
    said = {"name": arguments.name, "role": arguments.role}
    _say(arguments, said, f"{arguments.name}: is {arguments.role} from now on")
    return 0


def change_password(arguments: argparse.Namespace) -> int:
    """`people password`"""
    with _opened(arguments) as (store, accounts):
        store.accounts.get(arguments.name)
        accounts.set_password(arguments.name, _read_password())
    _say(arguments, {"name": arguments.name}, f"{arguments.name}: has a new password, and is logged out everywhere")
    return 0


def make_token(arguments: argparse.Namespace) -> int:
    """`people token`"""
    from ranker.errors import UsageError

    if not 1 <= arguments.days <= 3650:
        raise UsageError(f"people: --days: {arguments.days}: choose 1 to 3650")
    with _opened(arguments) as (store, accounts):
        if arguments.revoke:
            number = store.accounts.revoke_tokens(arguments.name)
            _say(arguments, {"revoked": number}, f"{arguments.name}: {number} tokens taken back")
            return 0
        token = accounts.make_token(arguments.name, days=arguments.days)
    if not arguments.json:
        print("Shown once. Send it as `Authorization: Bearer TOKEN`:", file=sys.stderr)
    _say(arguments, {"token": token, "days": arguments.days}, token)
    return 0


def remove_person(arguments: argparse.Namespace) -> int:
    """`people remove`"""
    with _opened(arguments) as (_, accounts):
        kept = accounts.remove(arguments.name).name
    _say(arguments, {"votes_are_kept_as": kept}, f"{arguments.name}: removed; what they said is kept as {kept}")
    return 0


def list_people(arguments: argparse.Namespace) -> int:
    """`people list`"""
    with _opened(arguments) as (store, _):
        people = store.accounts.all()
    if arguments.json:
        print_json([account.model_dump(mode="json") for account in people])
    elif people:
        print_table(("name", "role", "since"), [(a.name, a.role.value, a.created_at[:10]) for a in people])
    else:
        print("Nobody has an account: `people add NAME --role admin` makes the first.")
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple["Store", "Accounts"]]:
    from studio.accounts import Accounts

    settings = read_settings(arguments)
    with open_store(settings) as store:
        yield store, Accounts(store, settings.data_dir)


def _read_password() -> str:
    """Asked for twice at a terminal; else the first line of standard input. Never an argument: those can be seen by others."""
    from ranker.errors import UsageError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise UsageError("people: password: the two differ: try again")
    return password


def _say(arguments: argparse.Namespace, value: dict[str, Any], words: str) -> None:
    if arguments.json:
        print_json(value)
    else:
        print(words)
