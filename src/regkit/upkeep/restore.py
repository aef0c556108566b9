"""Bringing a backup back: everything is read and compared before anything takes its place.

Blobs go into the store as they are read, where nothing refers to them until the new database does;
the database, keys and configuration are made beside the old ones and swapped in at once (`swap`).
What must outlive it - revocations, and what the service adds - is carried over from the database
that is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from aar_interface import Fingerprint
from regkit.blobs import DigestMismatch
from regkit.database import Database
from regkit.errors import Conflict, Invalid, ServiceError
from regkit.oci.digest import Digest
from regkit.progress import Advance, ignore
from regkit.trust import Entry, carrying
from regkit.upkeep import archive, locks, swap
from regkit.upkeep.archive import Header, Member
from regkit.upkeep.backup import single_file
from regkit.upkeep.rows import database_faults
from regkit.upkeep.scrub import examine
from regkit.upkeep.state import Adoption, State

PATIENCE = 5.0
"""Seconds to wait for a command that has the state open."""


Progress = Callable[[int], AbstractContextManager[Advance]]


def _unshown(_size: int) -> AbstractContextManager[Advance]:
    return nullcontext(ignore)


@dataclass(frozen=True)
class Wish:
    """How to restore.

    `force`: also in the place of a state that holds something. `keys`: take over the private
    keys, if the backup has them. `revoked`: revocations from a list that was kept elsewhere.
    `accept_lost_revocations`: go on when the present database can't be read.
    """

    force: bool = False
    keys: bool = True
    revoked: tuple[Entry, ...] = ()
    accept_lost_revocations: bool = False


@dataclass(frozen=True)
class Restored:
    """What was done. `revoked`: carried over; `trusted_again`: not trusted just before."""

    header: Header
    replaced: tuple[str, ...]
    revoked: tuple[Fingerprint, ...]
    trusted_again: tuple[Fingerprint, ...]
    lost: tuple[Digest, ...]
    remarks: tuple[str, ...]


def restore(
    make_state: Callable[[bytes | None], State],
    home: Path,
    file: IO[bytes],
    wish: Wish,
    progress: Progress = _unshown,
) -> Restored:
    """Restore the backup in `file` (which is read once, from its beginning) into `home`.

    `make_state` makes the state by the present configuration or, where there is none, by the
    backup's, which it is given. `progress` shows so many bytes. Raises Conflict for a running
    service and for a state that isn't empty, Invalid for a backup that isn't whole; nothing has
    changed then.
    """
    (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    busy = f"the state in {home} is in use: stop the service, then restore"
    with locks.held(home / locks.STATE, busy, seconds=PATIENCE):
        members = archive.members(file)
        header = archive.parse_header(_next(members, archive.HEADER).content(archive.MAX_JSON))
        files, database = _small_files(members, header)
        state = make_state(_configuration(files))
        _check_service(state, header)
        with progress(header.size) as count:
            return _Restoring(state, header, wish).run(files, database, members, count)


class _Restoring:
    def __init__(self, state: State, header: Header, wish: Wish) -> None:
        self._state = state
        self._header = header
        self._wish = wish
        self._added: list[Digest] = []
        self._staged = swap.new_name(state.database)

    def run(
        self,
        files: dict[str, bytes],
        database: Member,
        members: Iterator[Member],
        count: Advance,
    ) -> Restored:
        """Do it; on any error what was added goes again."""
        state = self._state
        state.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove(self._staged)
        made: list[Path] = [state.database]
        try:
            with _present(state, self._wish) as old:
                self._receive_database(database)
                lost = self._receive_blobs(members, count)
                outcome = self._adopt(old, lost)
            for name, content in self._chosen(files).items():
                path = state.home / name
                swap.write(path, content)
                made.append(path)
            swap.commit(state.home, made)
        except BaseException:
            self._undo(made)
            raise
        return outcome(tuple(str(path) for path in made))

    def _receive_database(self, member: Member) -> None:
        hasher = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(self._staged, flags, 0o600), "wb") as out:  # noqa: PTH123
            for chunk in member.chunks():
                hasher.update(chunk)
                out.write(chunk)
        _check_sum(self._header, member.name, hasher.hexdigest())

    def _receive_blobs(self, members: Iterator[Member], count: Advance) -> set[Digest]:
        """Take all blobs in; return those that the backup itself says are lost."""
        for member in members:
            digest = member.digest
            if digest is not None:
                self._receive_blob(digest, member, count)
            elif member.name == archive.COMPLETE:
                body = archive.parse_json(member.content(archive.MAX_JSON), member.name)
                _end(members)
                return {Digest.parse(text) for text in body.get("lost") or ()}
            else:
                raise Invalid(f"the backup has {member.name} at a wrong place")
        raise Invalid("the backup was cut short: its end is missing")

    def _receive_blob(self, digest: Digest, member: Member, count: Advance) -> None:
        blobs = self._state.blobs
        known = blobs.size(digest) is not None
        if known and examine(blobs, digest, member.size) is None:
            for chunk in member.chunks():  # it is here, whole
                count(len(chunk))
            return
        name = f"restore-{digest.hex[:64]}"
        blobs.discard(name)
        try:
            with blobs.stage(name) as staged:
                for chunk in member.chunks():
                    staged.write(chunk)
                    count(len(chunk))
                # One that was damaged when it was saved is listed at the end.
                with suppress(DigestMismatch):
                    staged.seal(digest)
                    staged.publish()
                    if not known:
                        self._added.append(digest)
        finally:
            blobs.discard(name)

    def _adopt(
        self, old: sa.Connection | None, lost: set[Digest]
    ) -> Callable[[tuple[str, ...]], Restored]:
        """Check the new database, and carry over what must outlive the old one."""
        state, wish = self._state, self._wish
        database = Database(f"sqlite:///{self._staged}")
        try:
            database.migrate(state.scripts)
            with database.read() as connection:
                if faults := list(database_faults(connection)):
                    raise Invalid(f"the backup's database is damaged: {faults[0]}")
                missing = self._missing(connection)
            if missing - lost:
                raise Invalid(
                    f"the backup lacks {len(missing - lost)} blobs that its database refers to, "
                    f"such as {min(missing - lost)}"
                )
            with database.write() as connection:
                trusted = carrying.trusted(connection, state.trust)
                entries = [*wish.revoked, *(carrying.revoked(old, state.trust) if old else ())]
                carried = carrying.carry(connection, state.trust, entries)
                again: set[Fingerprint] = set()
                if old is not None:
                    again = trusted - carrying.trusted(old, state.trust)
                remarks = state.adopt(
                    Adoption(
                        new=connection,
                        old=old,
                        lost=sorted(missing),
                        made=self._header.created,
                        now=datetime.now(timezone.utc),
                    )
                )
        finally:
            database.close()
        single_file(self._staged)
        revoked = tuple(entry.fingerprint for entry in carried)

        def outcome(replaced: tuple[str, ...]) -> Restored:
            return Restored(
                header=self._header,
                replaced=replaced,
                revoked=revoked,
                trusted_again=tuple(sorted(again - set(revoked))),
                lost=tuple(sorted(missing)),
                remarks=tuple(remarks),
            )

        return outcome

    def _missing(self, connection: sa.Connection) -> set[Digest]:
        """Return what the rows refer to and isn't here; all else was compared as it came in."""
        blobs = self._state.blobs
        return {
            item.digest
            for item in self._state.wanted(connection)
            if blobs.size(item.digest) != item.size
        }

    def _chosen(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return the files to take over: keys if wanted and whole, configuration if there is none.

        The machine's own configuration stays: addresses and places are its own.
        """
        state = self._state
        keys = [str(path) for path in state.keys]
        chosen = {name: files[name] for name in keys if name in files and self._wish.keys}
        name = str(state.configuration)
        if name in files and not (state.home / name).exists():
            chosen[name] = files[name]
        return chosen

    def _undo(self, made: Sequence[Path]) -> None:
        if (self._state.home / swap.MARKER).exists():
            return  # it is committed, and will be finished
        _remove(self._staged)
        for path in made[1:]:
            swap.new_name(path).unlink(missing_ok=True)
        for digest in self._added:
            self._state.blobs.delete(digest)


def read_revocations(file: IO[bytes], source: str) -> list[Entry]:
    """Read a list that `trust list --revoked --format json` printed. Raises Invalid."""
    content = file.read(archive.MAX_JSON + 1)
    if len(content) > archive.MAX_JSON:
        raise Invalid(f"{source} is too large")
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise Invalid(f"{source} is no JSON: make it with 'trust list --revoked'") from None
    return carrying.read_list(document, source)


def _small_files(members: Iterator[Member], header: Header) -> tuple[dict[str, bytes], Member]:
    """Read configuration and keys; return them and the database's member, still to be read."""
    files: dict[str, bytes] = {}
    for member in members:
        if member.name == archive.DATABASE:
            return files, member
        if member.digest is not None or len(files) >= archive.MAX_FILES:
            break
        content = member.content(archive.MAX_FILE)
        _check_sum(header, member.name, archive.sha256([content]))
        files[member.name] = content
    raise Invalid("the backup has no database at its place")


def _check_sum(header: Header, name: str, found: str) -> None:
    if header.sums.get(name) != found:
        raise Invalid(f"the backup's {name} is damaged: its SHA-256 is {found}")


def _configuration(files: dict[str, bytes]) -> bytes | None:
    return next((content for name, content in files.items() if name.startswith("conf/")), None)


def _check_service(state: State, header: Header) -> None:
    if header.service != state.service:
        raise Invalid(
            f"this is a backup of {header.service[:40]!r}: restore it with '{header.service[:40]} "
            "restore'"
        )


def _next(members: Iterator[Member], name: str) -> Member:
    member = next(members, None)
    if member is None or member.name != name:
        raise Invalid(f"this is no backup: it doesn't begin with {name}")
    return member


def _end(members: Iterator[Member]) -> None:
    for member in members:
        raise Invalid(f"the backup goes on after its end, with {member.name}")


@contextmanager
def _present(state: State, wish: Wish) -> Iterator[sa.Connection | None]:
    """Open the database that is replaced, to read; None when there is none, or none is readable.

    Raises Conflict when it holds something, without `force`.
    """
    if not state.database.exists():
        yield None
        return
    database = Database(f"sqlite:///{state.database}")
    try:
        with _readable(database, state, wish) as connection:
            if connection is not None and not wish.force:
                contents = state.contents(connection)
                if contents:
                    raise Conflict(
                        f"the state in {state.home} holds {contents}: give --force to replace it"
                    )
            yield connection
    finally:
        database.close()


@contextmanager
def _readable(database: Database, state: State, wish: Wish) -> Iterator[sa.Connection | None]:
    try:
        with database.read() as connection:
            faults = list(database_faults(connection))
            if not faults:
                carrying.revoked(connection, state.trust)
    except (ServiceError, DatabaseError) as error:
        faults = [str(getattr(error, "orig", error))]
    if faults and not wish.accept_lost_revocations:
        raise Conflict(
            f"the present database can't be read ({faults[0]}), and with it what was revoked: "
            "give --revocations with a list that was kept elsewhere, and "
            "--accept-lost-revocations"
        )
    if faults:
        yield None
        return
    with database.read() as connection:
        yield connection


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
