"""Superset's configuration, entirely from the environment; secrets have no defaults.

SUPERSET_SECRET_KEY signs sessions and encrypts stored passwords. SUPERSET_DATABASE_URL is Superset's metadata database,
SUPERSET_CACHE_URL a Redis for chart data (empty: files under SUPERSET_HOME), SUPERSET_LIVE_SECONDS the maximum age of cached answers
over the live reports. SUPERSET_MONGODB_URL and SUPERSET_MONGODB_DATABASE are the location of the reports, SUPERSET_PICTURES_FROM the
addresses from which pages may load pictures of products, separated by spaces, SUPERSET_TRUSTED_HOSTS the host names that requests may bear
(empty: any), separated by commas. SUPERSET_PUBLIC_URL is the URL in browsers: if it begins with https, a proxy with TLS is in front.
SUPERSET_LOGIN_ISSUER is an identity provider for logins, which tidemark.superset.login describes.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tidemark.superset import history_version as history
from tidemark.superset import login_limits, templates
from tidemark.superset.action_log import ActionLog


def _given(name: str) -> str:
    if value := os.environ.get(name):
        return value
    sys.exit(f"Superset cannot start: {name} is not set")


_HOME = Path(_given("SUPERSET_HOME"))

SECRET_KEY = _given("SUPERSET_SECRET_KEY")
SQLALCHEMY_DATABASE_URI = _given("SUPERSET_DATABASE_URL")

# Caching ---------------------------------------------------------------------------------------------------------------------

# Lifetime of answers over the live reports. Answers over the history are cached for a day, under a key that changes with the history.
_LIVE_SECONDS = int(os.environ.get("SUPERSET_LIVE_SECONDS") or 2)
CUSTOM_TEMPLATE_PROCESSORS = {"mongopipe": templates.processor}
JINJA_CONTEXT_ADDONS = {"history_version": history.version}


def _cache(prefix: str, seconds: int) -> dict[str, object]:
    common = {"CACHE_KEY_PREFIX": f"tidemark-{prefix}-", "CACHE_DEFAULT_TIMEOUT": seconds}
    if url := os.environ.get("SUPERSET_CACHE_URL"):
        return {**common, "CACHE_TYPE": "tidemark.superset.lenient_redis.LenientRedis", "CACHE_REDIS_URL": url}
    return {**common, "CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(_HOME / "cache" / prefix), "CACHE_THRESHOLD": 5_000}


CACHE_CONFIG = _cache("meta", 300)
DATA_CACHE_CONFIG = {**_cache("data", _LIVE_SECONDS), "CACHE_TYPE": "tidemark.superset.shared_cache.SharedCache"}
DASHBOARD_AUTO_REFRESH_MODE = "fetch"  # auto-refresh uses cached answers too, instead of forcing new queries

# Security --------------------------------------------------------------------------------------------------------------------

WTF_CSRF_ENABLED = True
RATELIMIT_ENABLED = True
RATELIMIT_IN_MEMORY_FALLBACK_ENABLED = True  # while Redis is away
FLASK_APP_MUTATOR = login_limits.limit_logins
RATELIMIT_STORAGE_URI = os.environ.get("SUPERSET_CACHE_URL") or "memory://"  # shared by all processes, or per process
_PUBLIC = urlsplit(os.environ.get("SUPERSET_PUBLIC_URL", ""))
_HTTPS = _PUBLIC.scheme == "https"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = _HTTPS
PREFERRED_URL_SCHEME = "https" if _HTTPS else "http"
# The last address that X-Forwarded-For names is the one that the proxy has seen. The proxy passes the Host on.
ENABLE_PROXY_FIX = _HTTPS
PROXY_FIX_CONFIG = {"x_for": 1, "x_proto": 1, "x_host": 0, "x_port": 0, "x_prefix": 0}
# Flask's; None is any name. Our own programs reach it by SUPERSET_URL, health checks on loopback.
_TRUSTED = os.environ.get("SUPERSET_TRUSTED_HOSTS", "").replace(",", " ").split()
_OWN = [urlsplit(os.environ.get("SUPERSET_URL", "")).hostname or "localhost", _PUBLIC.hostname or "localhost", "localhost", "127.0.0.1"]
TRUSTED_HOSTS = [*_TRUSTED, *_OWN] if _TRUSTED else None
# Pages load nothing from other hosts except pictures of products.
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:", *os.environ.get("SUPERSET_PICTURES_FROM", "").split()],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": _HTTPS,
}

if os.environ.get("SUPERSET_LOGIN_ISSUER"):
    from tidemark.superset import login  # which imports Superset

    globals().update(login.configuration())

# Features --------------------------------------------------------------------------------------------------------------------

FEATURE_FLAGS = {
    "DRILL_BY": True,
    "DRILL_TO_DETAIL": True,
    "DASHBOARD_RBAC": False,
    "ESTIMATE_QUERY_COST": True,
    "ENABLE_TEMPLATE_PROCESSING": True,
    "ALERT_REPORTS": False,
    "EMBEDDED_SUPERSET": False,
}
ROW_LIMIT = 10_000
SAMPLES_ROW_LIMIT = 1_000
SQL_MAX_ROW = 100_000
SQLLAB_DEFAULT_DBID = None
SUPERSET_WEBSERVER_TIMEOUT = 120

EVENT_LOGGER = ActionLog()

# Appearance ------------------------------------------------------------------------------------------------------------------

APP_NAME = "Tidemark"
LOGO_TARGET_PATH = "/superset/dashboard/tidemark-catalog/"
_LOGO = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 150 28'%3E"
    "%3Cpath d='M2 16q4-5 8 0t8 0 8 0' fill='none' stroke='%230b6e75' stroke-width='3' stroke-linecap='round'/%3E"
    "%3Cpath d='M2 23q4-5 8 0t8 0 8 0' fill='none' stroke='%230b6e75' stroke-opacity='.45' stroke-width='3' stroke-linecap='round'/%3E"
    "%3Cpath d='M3 6h22' stroke='%23c77700' stroke-width='3' stroke-linecap='round'/%3E"
    "%3Ctext x='36' y='20' font-family='Inter,Helvetica,Arial,sans-serif' font-size='18' font-weight='600' fill='%231d3b40'%3E"
    "Tidemark%3C/text%3E"
    "%3C/svg%3E"
)
THEME_DEFAULT = {
    "algorithm": "default",
    "token": {
        "brandAppName": APP_NAME,
        "brandLogoAlt": APP_NAME,
        "brandLogoUrl": f"data:image/svg+xml,{_LOGO}",
        "brandLogoHref": LOGO_TARGET_PATH,
        "brandLogoHeight": "28px",
        "brandLogoMargin": "12px 0",
        "brandIconMaxWidth": 150,
        "colorPrimary": "#0b6e75",
        "colorLink": "#0b6e75",
        "colorSuccess": "#2e7d4f",
        "colorWarning": "#c77700",
        "colorError": "#b3261e",
        "fontFamily": "Inter, Helvetica, Arial, sans-serif",
        "borderRadius": 6,
    },
}
THEME_DARK = None  # no dark mode
