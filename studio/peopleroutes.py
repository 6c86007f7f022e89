"""The HTTP routes of people: logging in and out, who one is, and for admins who there is."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from studio.accounts import SESSION_S, BadLoginError, TooManyTriesError
from studio.context import Context
from studio.gate import COOKIE, cookie_of
from studio.identity import visitor_of
from studio.loginpage import login_page
from studio.permissions import PAGES, Permission

_HOME = "/"


def add_people_routes(app: FastAPI, context: Context) -> None:
    """Add them to `app`."""
    accounts = context.accounts
    needs_accounts = context.settings.needs_accounts

    @app.get("/login")
    def show_login(request: Request, next: str = _HOME) -> Response:
        if not needs_accounts or visitor_of(request).role is not None:
            return RedirectResponse(local_path(next), 303)
        return _page(login_page(next_path=local_path(next)))

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        if not needs_accounts:
            return RedirectResponse(_HOME, 303)
        form = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=8)
        name, password, wanted = ((form.get(field) or [""])[0] for field in ("name", "password", "next"))
        wanted = local_path(wanted)
        address = request.client.host if request.client else ""
        try:
            cookie = await asyncio.to_thread(accounts.login, name, password, address=address)
        except BadLoginError:
            problem = "Name or password is not right. Try again."
            return _page(login_page(next_path=wanted, name=name[:80], problem=problem), 401)
        except TooManyTriesError as error:
            problem = f"Too many tries. Wait {-(-error.wait_s // 60)} min, then try again."
            page = _page(login_page(next_path=wanted, name=name[:80], problem=problem), 429)
            page.headers["retry-after"] = str(error.wait_s)
            return page
        await _end_session(request)
        response = RedirectResponse(wanted, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, max_age=SESSION_S, path="/", secure=secure, httponly=True, samesite="lax")
        return response

    async def _end_session(request: Request) -> None:
        old = cookie_of(request.scope)
        if old is not None:
            await asyncio.to_thread(accounts.logout, old)

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        await _end_session(request)
        response = RedirectResponse("/login" if needs_accounts else _HOME, 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return response

    @app.get("/api/me")
    def me(request: Request) -> dict[str, Any]:
        visitor = visitor_of(request)
        return {
            "needs_account": needs_accounts,
            "name": visitor.name,
            "role": visitor.role.value if needs_accounts and visitor.role else None,
            "may": [permission.value for permission in Permission if visitor.may(permission)],
            "closed_pages": [path for path, permission in PAGES.items() if not visitor.may(permission)],
        }

    @app.get("/api/people")
    def people() -> dict[str, Any]:
        return {"people": [account.model_dump(mode="json") for account in context.store.accounts.all()]}

    @app.delete("/api/people/{name}")
    def remove(name: str) -> dict[str, str]:
        return {"votes_are_kept_as": accounts.remove(name).name}


def local_path(path: str) -> str:
    """`path` if it leads to this studio, else home: a link must not send anybody elsewhere after they logged in."""
    parts = urlsplit(path.replace("\\", "/"))
    is_local = path.startswith("/") and not path.startswith("//") and not parts.scheme and not parts.netloc
    is_plain = path.isprintable() and not parts.path.startswith(("//", "/login", "/logout"))
    return path if is_local and is_plain else _HOME


def _page(markup: str, status: int = 200) -> Response:
    return HTMLResponse(markup, status, headers={"cache-control": "no-store"})
