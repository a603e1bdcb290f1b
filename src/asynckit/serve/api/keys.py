"""Who may use which route: API keys for all of them but liveness, and another key for the operator."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asynckit.serve.api.errors import ApiError, AsgiApp, Receive, Scope, Send

ANYBODY = "anybody"  # the owner of requests where no key is needed
NOBODY = "nobody"  # whose key is missing or unknown
ADMIN_PATHS = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/update_weights"})
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def fingerprint(key: str) -> str:
    """A short label of a key that does not give it away."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


@dataclass(frozen=True)
class Keys:
    """Digests of the keys, with their labels; it takes equally long to find any of them and none."""

    users: Mapping[bytes, str]
    admin: bytes | None

    @classmethod
    def of(cls, api_keys: Iterable[str], admin_key: str | None) -> "Keys":
        """Keys as the settings have them."""
        users = {_digest(key.encode()): fingerprint(key) for key in api_keys}
        return cls(users, _digest(admin_key.encode()) if admin_key else None)

    def owner(self, key: bytes | None) -> str | None:
        """Whose key it is; None where a key is needed and it is none. The operator's opens every route."""
        if not self.users:
            return ANYBODY
        given, found = _digest(key or b""), None
        for digest, label in self.users.items():
            if hmac.compare_digest(digest, given):
                found = label
        if self.is_admin(key):
            found = found or "admin"
        return found if key else None

    def is_admin(self, key: bytes | None) -> bool:
        """Whether it is the operator's."""
        return key is not None and self.admin is not None and hmac.compare_digest(self.admin, _digest(key))


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request carries; None without one, or with several."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1:
        return None
    scheme, _, key = found[0].partition(b" ")
    return key.strip() or None if scheme.lower() == b"bearer" else None


class KeyCheck:
    """Lets nobody through without the right key, before anything of the body is read.

    Args:
        app: what is guarded.
        keys: who may use it.
        open_paths: need no key.
    """

    def __init__(self, app: AsgiApp, keys: Keys, open_paths: frozenset[str]) -> None:
        self._app, self._keys, self._open = app, keys, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its owner, or refuse it."""
        if scope["type"] == "http":
            problem = self._problem(scope)
            if problem:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> ApiError | None:
        path, key = scope["path"], bearer(scope["headers"])
        owner = self._keys.owner(key)
        scope.setdefault("state", {})["owner"] = owner or NOBODY
        if path in self._open:
            return None
        if path in ADMIN_PATHS:
            return self._admin_problem(key)
        return None if owner else _unauthorized(key)

    def _admin_problem(self, key: bytes | None) -> ApiError | None:
        if self._keys.admin is None:
            message = "adapters and weights can't be changed: the server has no serve.admin_key"
            return ApiError(403, message, code="no_admin_key")
        if self._keys.is_admin(key):
            return None
        if self._keys.owner(key) in (None, ANYBODY):
            return _unauthorized(key)
        return ApiError(403, "this needs the admin key", code="not_admin")


def _unauthorized(key: bytes | None) -> ApiError:
    message = "this API key is not known" if key else "send an API key as 'Authorization: Bearer KEY'"
    return ApiError(401, message, code="invalid_api_key", headers=_CHALLENGE)
