"""Proxies of the environment: never for this machine, named where a relay was asked through one.

Flower speaks HTTP with httpx, which takes http_proxy, https_proxy and all_proxy from the
environment for every address that no_proxy does not name, 127.0.0.1 too, and does not start at all
if one of them is of a kind that it cannot use.
"""

import importlib.util
import os
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_NO = ("no_proxy", "NO_PROXY")


def direct_environment(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """Return `environment` in which loopback and `hosts` are reached without a proxy.

    Proxies that httpx cannot use (``socks://``, ``socks5://`` without the package socksio) are left
    out: they would keep every program of Flower's from starting.
    """
    kept = {name: value for name, value in environment.items() if not _unusable(name, value)}
    named = [name.strip() for variable in _NO for name in kept.get(variable, "").split(",")]
    spared = ",".join(dict.fromkeys([*filter(None, named), *LOOPBACK, *hosts]))
    if not any(name.lower() in _VARIABLES for name in kept):
        return kept
    return kept | dict.fromkeys(_NO, spared)


def go_direct() -> None:
    """Let this process, too, reach loopback without a proxy."""
    environment = direct_environment(os.environ)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def proxy_told(host: str, *, secure: bool) -> str:
    """Return what an error about `host` should say of its proxy; empty if asked through none."""
    scheme = "https" if secure else "http"
    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or host in LOOPBACK or urllib.request.proxy_bypass(host):
        return ""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    return (
        f"; it was asked through the proxy {_without_password(url)} of {variable}: "
        f"to reach it directly, add {host} to no_proxy"
    )


def _unusable(name: str, value: str) -> bool:
    if name.lower() not in _VARIABLES:
        return False
    scheme = value.partition("://")[0].lower() if "://" in value else "http"
    if scheme in ("socks5", "socks5h"):
        return importlib.util.find_spec("socksio") is None
    return bool(value) and scheme not in ("http", "https")


def _without_password(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
