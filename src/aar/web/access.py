"""Who is asking, and may they: the one gate in front of every route of both surfaces.

The peer's certificate comes from the TLS connection itself, never from a header. It is looked up
in the trust store at every request, and again for every chunk of a transfer, so that removing or
revoking it acts at once on connections that are open. Whether a publisher may write a certain
architecture is a rule, and lives in `aar.applications`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

from flask import Flask, g, request

from aar.errors import Denied, TooManyRequests
from aar.refusals import Refusals
from aar.web.transfers import Transfers, ended
from aar_interface import Certificate, Fingerprint
from regkit import logs
from regkit.errors import Forbidden, ServiceError, Unavailable
from regkit.rates import Rates
from regkit.serving import is_local, peer_certificate, reset
from regkit.trust import Entry, Refused, TrustStore

log = logs.get("aar.web")

Chunk = TypeVar("Chunk", bytes, memoryview)

#: Lines about refusals that the log takes at once, and then per second: strangers write them.
LINES_BURST, LINES_RATE = 50, 2

#: A client may make so many seconds' worth of requests at once.
BURST_SECONDS = 5

#: How long a download waits while nobody can say whether its client is still trusted.
OUTAGE_SECONDS, OUTAGE_PAUSE = 15.0, 0.5

#: Methods that change nothing (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Access:
    """The gate of one worker.

    Args:
        trust: the registry's trust store.
        refusals: where refusals are counted for the audit log.
        refused: called once per refusal, for the metrics.
        transfers: watches downloads that wait for their clients.
        rate: how many requests per second one certificate may make; 0: any.
    """

    def __init__(
        self,
        trust: TrustStore,
        refusals: Refusals,
        refused: Callable[[], None],
        transfers: Transfers,
        rate: float = 0,
    ) -> None:
        self._trust = trust
        self._transfers = transfers
        self._rates = Rates(rate, max(1, rate * BURST_SECONDS)) if rate else None
        self._refusals = refusals
        self._refused = refused
        self._lines = Rates(LINES_RATE, LINES_BURST)
        self._unsaid = 0
        self._open: set[str] = set()
        self._loopback: set[str] = set()

    def guard(self, app: Flask) -> None:
        """Let nobody past to a route of `app` who isn't trusted, and only publishers write.

        It holds for unknown routes too: they tell a stranger nothing.
        """
        app.before_request(self._check)

    def open_to_all(self, endpoint: str) -> None:
        """Exempt `endpoint`: it answers anybody who completes the handshake."""
        self._open.add(endpoint)

    def open_to_loopback(self, endpoint: str) -> None:
        """Exempt `endpoint` for callers on this machine."""
        self._loopback.add(endpoint)

    def caller(self) -> Entry | None:
        """Return the trusted row of the caller, None for anybody else. Never raises."""
        try:
            return self._trust.admit(peer_certificate(request.environ))
        except Refused:
            return None

    def require(self, *, writing: bool) -> Entry:
        """Return the caller's row.

        Raises Forbidden, which is logged, unless the caller may read, or write when `writing`.
        """
        return self._admit(_Attempt.current(), writing)

    def may_read_again(self, connection: Any) -> bool:
        """Whether a reading request on a connection needs nothing from this gate but a yes.

        No when it is refused or comes too often, which must be told, and when that it came is to
        be remembered: then it goes through the gate as any other.
        """
        try:
            entry = self._trust.admit(connection.peer)
        except Refused:
            return False
        if self._trust.is_due(entry):
            return False
        return self._rates is None or not self._rates.wait(entry.fingerprint)

    def denied(self, fault: Denied) -> None:
        """Count a refusal that a rule made of a trusted caller's request."""
        self._refuse(_Attempt.current(), current().fingerprint, str(fault))

    def received(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass on the chunks of a request's body for as long as the caller may write.

        Raises Forbidden as soon as that is no longer so; what was passed on before stays with the
        upload session, which a publisher may resume.
        """
        attempt = _Attempt.current()
        for chunk in chunks:
            self._admit(attempt, writing=True)
            yield chunk

    def sending(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass on the chunks of an answer for as long as the caller is trusted, then cut it.

        The status line is out by then, so that ending the connection before the announced length
        is the only way left to say no; what the kernel hasn't sent yet is dropped with it. To be
        called inside the request; it is consumed after it.
        """
        return self._sending(_Attempt.current(), chunks)

    def _sending(self, attempt: _Attempt, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        def may_go_on() -> bool:
            try:
                self._admit(attempt, writing=False)
            except Forbidden:
                return False
            except Unavailable:  # the next piece waits for the answer
                return True
            return True

        with self._transfers.running(attempt.connection, may_go_on):
            for chunk in chunks:
                if not self._admitted(attempt):
                    reset(attempt.connection)
                    raise ended()
                yield chunk

    def _admitted(self, attempt: _Attempt) -> bool:
        """Say whether the next piece may be sent; a database that is away is waited for."""
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                self._admit(attempt, writing=False)
            except Forbidden:
                return False
            except Unavailable:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(OUTAGE_PAUSE)
            else:
                return True

    def _admit(self, attempt: _Attempt, writing: bool) -> Entry:
        try:
            entry = self._trust.admit(attempt.certificate)
        except Refused as refusal:
            self._refuse(attempt, refusal.fingerprint, refusal.reason)
            raise
        if writing and not entry.role.may_write:
            reason = f"the role {entry.role} only reads; writing needs the role publisher"
            self._refuse(attempt, entry.fingerprint, reason)
            raise Forbidden(f"not authorized: {reason}")
        return entry

    def _refuse(self, attempt: _Attempt, fingerprint: Fingerprint | None, reason: str) -> None:
        self._refused()
        shown = str(fingerprint or "")
        what = f"{attempt.method} {attempt.path}"
        first = self._refusals.note(shown, reason, attempt.address, what)
        if self._lines.wait("refused") and not first:
            self._unsaid += 1
            return
        more = {"unsaid": self._unsaid} if self._unsaid else {}
        self._unsaid = 0
        log.warning(
            "refused",
            fingerprint=shown or "none",
            address=attempt.address,
            method=attempt.method,
            path=attempt.path,
            reason=reason,
            **more,
        )

    def _check(self) -> None:
        g.started = time.monotonic()
        endpoint = request.endpoint
        if endpoint in self._open or (endpoint in self._loopback and _from_this_machine()):
            return
        entry = self.require(writing=request.method not in SAFE_METHODS)
        g.caller = entry
        if self._rates is not None and (wait := self._rates.wait(entry.fingerprint)):
            raise TooManyRequests(
                "this certificate makes more requests than the registry's limits."
                f"requests-per-second allows: go on in {math.ceil(wait)} s",
                wait,
            )
        try:
            self._trust.touch(entry)
        except ServiceError as error:
            # Reading must go on when the disk is full.
            log.warning(
                "last-used-not-saved", fingerprint=str(entry.fingerprint), reason=str(error)
            )


@dataclass(frozen=True)
class _Attempt:
    """Who tries what: all that is needed once the request's context is gone."""

    certificate: Certificate | None
    connection: Any
    address: str
    method: str
    path: str

    @classmethod
    def current(cls) -> _Attempt:
        return cls(
            certificate=peer_certificate(request.environ),
            connection=request.environ["gunicorn.socket"],
            address=request.remote_addr or "unix",
            method=request.method,
            path=request.full_path.rstrip("?")[:500],
        )


def current() -> Entry:
    """Return the caller that the gate let in."""
    return g.caller


def _from_this_machine() -> bool:
    if is_local(request.environ):
        return True
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
