"""The address under which the server is known, and what follows: hosts, cookies, redirects, the path's prefix."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from embeddings_project.env import Env

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
# The server's own paths: below a prefix that begins with one, nobody could say whose path it is.
OWN_PATHS = ("api", "admin", "docs", "healthz", "metrics", "openapi.json", "readyz", "static")  # fmt: skip
# Probes and scrapers come from inside, past the proxy that ends TLS. The API has no redirects: a key was sent by then.
NO_REDIRECT = [r"(^|/)(healthz|readyz|metrics)/?$", r"(^|/)api/"]
# Django's hints name settings that operators cannot set. PUBLIC_URL covers them, and embeddings.W040 asks for it; the
# length of SECRET_KEY is embeddings.E007. Whether HSTS includes the domain's other hosts is not for us to decide.
SILENCED_CHECKS = [f"security.W{number:03}" for number in (4, 5, 8, 9, 12, 16, 21)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`url` without a slash at its end, empty if not set; `prefix` is its path; `https` says how browsers come."""

    url: str = ""
    prefix: str = ""
    https: bool = False
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    hsts_seconds: int = 0
    redirect: bool = False


def read_site(env: Env, *, loopback: bool) -> Site:
    url = env.url("PUBLIC_URL") or ""
    parts = urlsplit(url)
    https, prefix = parts.scheme == "https", parts.path
    if url and (parts.query or parts.fragment or "@" in parts.netloc):
        env.problem(
            "PUBLIC_URL", "must be an address like https://host/path, and no more"
        )
    if not PREFIX.fullmatch(prefix):
        env.problem("PUBLIC_URL", "must have a path of letters, digits and . _ ~ -")
    if prefix.split("/")[1:2] and prefix.split("/")[1] in OWN_PATHS:
        env.problem(
            "PUBLIC_URL",
            f"must not have a path that begins like the server's own: {', '.join(OWN_PATHS)}",
        )
    given = env.words("ALLOWED_HOSTS")
    public = (_bracketed(parts.hostname),) if parts.hostname else ()
    origin = (f"{parts.scheme}://{parts.netloc.lower()}",) if url else ()
    every = () if loopback or url else ("*",)
    hsts = env.integer(
        "HSTS_SECONDS", 3600 if https else 0, minimum=0, maximum=10 * 365 * 86400
    )
    redirect = env.boolean("HTTPS_REDIRECT", default=False)
    for name, value in (("HSTS_SECONDS", hsts), ("HTTPS_REDIRECT", redirect)):
        if value and not https:
            env.problem(name, "needs a PUBLIC_URL that begins with https://")
    return Site(
        url=url,
        prefix=prefix,
        https=https,
        hosts=(given or every or LOOPBACK_HOSTS) + public,
        origins=tuple(dict.fromkeys(env.words("CSRF_TRUSTED_ORIGINS") + origin)),
        hsts_seconds=hsts,
        redirect=redirect,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def read_proxies(env: Env, *, counted: int) -> str:
    """Return whose X-Forwarded-Proto is believed: anybody's, where X-Forwarded-For of `counted` proxies is, else those
    of this machine, or whom FORWARDED_ALLOW_IPS names."""
    words = env.words("FORWARDED_ALLOW_IPS")
    for word in words:
        try:
            word == "*" or ip_network(word)
        except ValueError:
            env.problem(
                "FORWARDED_ALLOW_IPS",
                f"must be addresses or networks such as 10.0.0.0/8, not {word!r}",
            )
    return ",".join(words) or ("*" if counted else "127.0.0.1,::1")


def below_prefix(application: Application, prefix: str | None) -> Application:
    """Return the WSGI application at the paths below the prefix of `PUBLIC_URL`, and at those without it."""
    if not prefix:
        return application

    def at_its_path(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        environ["PATH_INFO"] = without_prefix(path, prefix)
        return application(environ, start_response)

    return at_its_path


def without_prefix(path: str, prefix: str) -> str:
    """Return the path below the prefix, which some proxies take away and others leave."""
    rest = f"/{path.lstrip('/')}".removeprefix(prefix)
    return rest or "/" if rest[:1] in ("", "/") else path
