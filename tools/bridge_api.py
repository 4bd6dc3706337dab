"""The bridge's HTTP API, as the command line calls it.

One request at a time and no connection kept: an engineer's command asks a few questions
and ends. A timeout says "unknown", never "failed" (I-11).
"""

import http.client
import json
import os
import secrets
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tools.api_key import TOKEN_VARIABLE, headers_of
from tools.errors import OperatorError

ANSWER_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer; a page of 200 vehicles has about 600 KB, the largest evidence
file (`protocol.evidence.EVIDENCE_LIMIT`) has as much as this."""

SLACK_S: Final = 10.0
"""Patience beyond the time that the bridge itself was asked to wait."""

API_VARIABLE: Final = "FREEFLOAT_API"
KEY_VARIABLE: Final = "FREEFLOAT_API_KEY_FILE"


@dataclass(frozen=True, slots=True)
class BridgeApi:
    """Where the bridge answers, and the key to it."""

    host: str
    """Name or address."""
    port: int
    """TCP port."""
    secure: bool
    """Whether it is https."""
    prefix: str
    """Path before ``/v1``, without a slash at the end."""
    opening: Mapping[str, str]
    """The headers that open it, empty for none."""

    @classmethod
    def at(cls, url: str, key_file: Path | None) -> Self:
        """Return the API at a URL.

        Raises:
            OperatorError: the URL or the key file cannot be used.
        """
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
            raise OperatorError(
                f"{url!r} is no address of a bridge",
                f"use http://127.0.0.1:8080, with --api or {API_VARIABLE}",
            )
        secure = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=port or (443 if secure else 80),
            secure=secure,
            prefix=parts.path.rstrip("/"),
            opening=headers_of(key_file, os.environ),
        )

    def get(self, path: str, *, timeout_s: float = SLACK_S) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of an answer.

        Raises:
            OperatorError: no bridge, or it says no; with its own words.
        """
        return _document(*self._ask("GET", path, None, {}, timeout_s))

    def get_bytes(self, path: str, header: str) -> tuple[bytes, str]:
        """Return an answer's bytes as they are, and one of its headers, or "".

        Raises:
            OperatorError: no bridge, or it says no; with its own words.
        """
        status, body, headers = self._exchange("GET", path, None, {}, SLACK_S)
        _document(status, body)
        return body, headers.get(header, "")

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask for something that is no order to a car.

        Raises:
            OperatorError: no bridge, or it says no; with its own words.
        """
        data = b"" if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        return _document(*self._ask("POST", path, data, headers, SLACK_S))

    def post_command(
        self, vehicle: str, body: Mapping[str, object], *, wait_s: float
    ) -> Any:  # noqa: ANN401 - JSON
        """Order something and wait for the signed outcome.

        Raises:
            OperatorError: no bridge, or it says no; with its own words.
        """
        # One key for this call: if the connection breaks and a person repeats the
        # command, that is a new order, and they are told to look first.
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": secrets.token_urlsafe(16),
        }
        path = f"/v1/vehicles/{vehicle}/commands?wait_s={wait_s:g}"
        data = json.dumps(body).encode()
        return _document(*self._ask("POST", path, data, headers, wait_s + SLACK_S))

    def vehicles(self) -> Iterator[dict[str, Any]]:
        """Yield every vehicle of the fleet."""
        after = ""
        while True:
            page = self.get(f"/v1/vehicles?limit=200{after}")
            yield from page["vehicles"]
            if page["next"] is None:
                return
            after = f"&after={page['next']}"

    def find(self, beginning: str) -> dict[str, Any]:
        """Return the one vehicle whose id begins like this.

        Raises:
            OperatorError: none does, or several do.
        """
        found = [v for v in self.vehicles() if v["id"].startswith(beginning.upper())]
        if len(found) == 1:
            return found[0]
        if not found:
            raise OperatorError(
                f"no vehicle's id begins with {beginning!r}",
                "see 'freefloat send list'",
            )
        raise OperatorError(
            f"{len(found)} vehicles' ids begin with {beginning!r}",
            "type more of the id: " + ", ".join(v["id"] for v in found[:3]) + " ...",
        )

    def _ask(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[int, bytes]:
        status, body, _ = self._exchange(method, path, data, headers, timeout_s)
        return status, body

    def _exchange(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        kind = (
            http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        )
        connection = kind(self.host, self.port, timeout=timeout_s)
        every = {**headers, **self.opening}
        try:
            connection.request(method, self.prefix + path, body=data, headers=every)
            answer = connection.getresponse()
            body = answer.read(ANSWER_LIMIT + 1)
        except TimeoutError:
            raise OperatorError(
                f"the bridge at {self.host}:{self.port} does not answer",
                "what was ordered is unknown: look with 'freefloat send show'"
                if method == "POST"
                else "try again, or look at the bridge's log",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise OperatorError(
                f"no bridge at {self.host}:{self.port}: {_reason(error)}",
                f"start one with 'freefloat bridge run', or set {API_VARIABLE}",
            ) from error
        finally:
            connection.close()
        return answer.status, body, answer.headers


def _reason(error: OSError | http.client.HTTPException) -> str:
    """Return why there was no answer, without the system's number for it."""
    told = error.strerror if isinstance(error, OSError) else None
    return told.lower() if told else str(error) or type(error).__name__


def _document(status: int, body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        document = json.loads(body)
    except ValueError:
        raise OperatorError(
            f"the answer with status {status} is no JSON: this is no bridge",
            "check host and port",
        ) from None
    if status < http.HTTPStatus.BAD_REQUEST:
        return document
    told = document if isinstance(document, dict) else {}
    title, detail = told.get("title", ""), told.get("detail", "")
    errors: list[dict[str, Any]] = told.get("errors", [])
    # What `/ready` says where it is not.
    waiting = [f"{name}: {why}" for name, why in told.get("waiting_for", {}).items()]
    if waiting:
        detail = "it is not ready; " + "; ".join(waiting)
    # The detail is the sentence of the first field that is wrong.
    others = [f"{e.get('field')}: {e.get('problem')}" for e in errors[1:]]
    sentences = [detail or title or f"status {status}", *others]
    raise OperatorError(
        f"the bridge says no: {'; '.join(sentences)}",
        _advice(status, told),
    )


def _advice(status: int, told: Mapping[str, Any]) -> str:
    """Return what to do about an answer, where its own words do not say it."""
    if status == http.HTTPStatus.UNAUTHORIZED:
        return (
            f"name a file with an API key or a token with --api-key-file or "
            f"{KEY_VARIABLE}, or put a token into {TOKEN_VARIABLE}"
        )
    if told.get("errors"):
        return "nothing was done; correct the value and repeat"
    if status == http.HTTPStatus.NOT_FOUND:
        return (
            "nothing was done; check name and id, and that this is the bridge you mean"
        )
    if "approval" in told:
        return f"how it goes: freefloat bridge approvals show {told['approval']['id']}"
    return ""
