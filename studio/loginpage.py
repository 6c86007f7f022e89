"""The page to log in on, and the one that says no. Written here whole: it has to work for those who may load nothing else.

What others wrote is escaped. Knows no accounts.
"""

import html
from string import Template
from typing import Final

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title - Ranking Studio</title>
<link rel="stylesheet" href="/studio-assets/studio.css">
<link rel="icon" type="image/svg+xml" href="/studio-assets/studio.svg">
<script type="module" src="/studio-assets/js/login.js"></script>
</head>
<body class="rs-door">
<script src="/studio-assets/js/colours.js"></script>
<main>
<p class="rs-brand"><span class="rs-mark" aria-hidden="true"><i></i><i></i><i></i></span>Ranking Studio</p>
<h1>$title</h1>
$content
</main>
</body>
</html>
""")

_FORM: Final = Template("""<form method="post" action="/login">
$alert<input type="hidden" name="next" value="$next">
<label for="name">Name</label>
<input id="name" name="name" value="$name" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="80" required$focus_name>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="1024" required$focus_password>
<button type="submit">Log in</button>
</form>
<p class="rs-door-hint">Accounts are made by whoever runs this studio. Forgot the password? Ask them for a new one.</p>""")

_NO: Final = Template("""<p role="alert">$reason</p>
<p><a href="/">Back to the studio</a></p>
<form method="post" action="/logout"><button type="submit">Log in as somebody else</button></form>""")


def login_page(*, next_path: str, name: str = "", problem: str = "") -> str:
    """The form, with what went wrong the last time."""
    alert = f'<p role="alert">{html.escape(problem)}</p>\n' if problem else ""
    form = _FORM.substitute(
        alert=alert,
        next=html.escape(next_path),
        name=html.escape(name),
        focus_name="" if name else " autofocus",
        focus_password=" autofocus" if name else "",
    )
    return _PAGE.substitute(title="Log in", content=form)


def refusal_page(reason: str) -> str:
    """For somebody who is logged in and may not open a page."""
    return _PAGE.substitute(title="Not for this account", content=_NO.substitute(reason=html.escape(reason)))
