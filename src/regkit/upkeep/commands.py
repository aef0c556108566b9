"""The commands of `aar` and `ams` that check, mend, back up and restore a state root.

Parses, makes one call, prints. What is particular to a service comes as functions.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from regkit import cli as shared
from regkit import failpoints

if TYPE_CHECKING:
    import requests

    from aar_interface import Fingerprint
    from regkit.blobs import BlobStore
    from regkit.upkeep.restore import Restored
    from regkit.upkeep.scrub import Books
    from regkit.upkeep.state import State

DAMAGED = 3
"""Exit code of a check that found something lost."""


@dataclass(frozen=True)
class Checked:
    """An opened service, as `verify` needs it.

    `connect` opens a session with the registry of this certificate, as this service; `advice`
    says how lost content is given again. `registry` gives the URL and the certificate of the one
    that `--from registry` means.
    """

    blobs: BlobStore
    books: Books
    connect: Callable[[Fingerprint], requests.Session]
    advice: str
    registry: Callable[[], tuple[str, Fingerprint]] | None = None


def verify_command(
    name: str, opened: Callable[[], AbstractContextManager[Checked]], more: str = ""
) -> click.Command:
    """Return the command `verify` of the command line `name`; `more` adds to its help."""

    @click.command("verify", short_help="Check everything that is stored")
    @click.option("--repair", is_flag=True, help="Take what is lost from elsewhere.")
    @click.option(
        "--from",
        "places",
        multiple=True,
        metavar="<folder>|<backup>|<url>",
        help="Where to take it from; repeatable.",
    )
    @click.option(
        "--fingerprint",
        metavar="<fingerprint>",
        help="The whole fingerprint of the certificate of the registry at the URL.",
    )
    @shared.format_option("text", "json", "yaml", default="text")
    def command(
        repair: bool, places: tuple[str, ...], fingerprint: str | None, output_format: str
    ) -> int:
        if places and not repair:
            raise click.UsageError("--from says where to repair from: give --repair too")
        pin = _pin(places, fingerprint)
        chosen = list(places)
        from regkit.progress import transfer  # noqa: PLC0415 - these cost 200 ms
        from regkit.upkeep import reports, sources  # noqa: PLC0415
        from regkit.upkeep.repair import repair as mend  # noqa: PLC0415
        from regkit.upkeep.scrub import scrub  # noqa: PLC0415

        with opened() as service:
            if "registry" in chosen and service.registry is not None:
                url, pin = service.registry()
                chosen[chosen.index("registry")] = url

            def connect() -> requests.Session:
                assert pin is not None  # noqa: S101 - checked with the places
                return service.connect(pin)

            with sources.opened(chosen, connect) as found:
                with transfer("Checking", service.books.amount()) as advance:
                    report = scrub(service.blobs, service.books, advance)
                if repair and report.damages:
                    size = sum(damage.size for damage in report.damages)
                    with transfer("Repairing", size) as advance:
                        report = mend(service.blobs, service.books, report, found, advance)
        if output_format == "text":
            click.echo(reports.in_words(report, name, service.advice), nl=False)
        else:
            shared.print_document(reports.document(report), output_format)
        return 0 if report.sound else DAMAGED

    command.help = _VERIFY.replace("MORE", more).replace("NAME", name)
    return command


_VERIFY = f"""Read every blob and compare it with its digest, and the database with itself.

May be run beside the service. What is damaged is moved to 'damaged' beside the blobs and isn't
served any more, as if it had never come; whoever pushes or imports it again replaces it. What is
merely left over, such as files that nothing refers to, is told, and is no damage. The exit code is
0 when all is sound, {DAMAGED} when something is lost.

--repair takes what is lost from an upload that rests here, or from the places given with --from: a
folder (another service's data, an OCI image layout, a Docker registry's storage), a backup, or the
URL of another registry, whose certificate is named with --fingerprint and which must let this
service in. Nothing is taken whose digest isn't right.MORE

\b
Example:
  sudo NAME verify
  sudo NAME verify --repair --from /srv/backup-monday.tar
  sudo NAME verify --repair --from https://192.0.2.7:3000 --fingerprint <64 digits>
"""


def _pin(places: tuple[str, ...], fingerprint: str | None) -> Fingerprint | None:
    urls = [place for place in places if place.startswith("https://")]
    if not urls:
        if fingerprint is not None:
            raise click.UsageError("--fingerprint is that of a registry: give its URL with --from")
        return None
    if len(urls) > 1:
        raise click.UsageError("give one URL only: --fingerprint names one registry")
    if fingerprint is None:
        raise click.UsageError(
            "--fingerprint is missing: the registry's 'certs/server.crt' has it, whole"
        )
    from aar_interface import Fingerprint  # noqa: PLC0415 - cryptography costs 50 ms

    try:
        return Fingerprint.parse(fingerprint)
    except ValueError as error:
        raise click.UsageError(f"--fingerprint: {error}") from None


def backup_command(
    name: str, opened: Callable[[], AbstractContextManager[State]]
) -> click.Command:
    """Return the command `backup` of the command line `name`."""

    @click.command("backup", short_help="Save everything in one file")
    @click.argument("path", metavar="<file>|-", type=click.Path(allow_dash=True))
    @click.option("--without-keys", is_flag=True, help="Leave the private keys out.")
    @click.option("--force", is_flag=True, help="Replace a file that is there.")
    def command(path: str, without_keys: bool, force: bool) -> int:
        if path == "-" and sys.stdout.isatty():
            raise click.UsageError(
                "a backup is nothing for a terminal: redirect it, or name a file"
            )
        with _output(path, force) as out:
            from regkit.progress import transfer  # noqa: PLC0415 - these cost 200 ms
            from regkit.sizes import render  # noqa: PLC0415
            from regkit.upkeep import backup  # noqa: PLC0415

            with opened() as state, backup.opened(state) as snapshot:
                size = sum(item.size for item in snapshot.wanted)
                with transfer("Saving", size) as advance:
                    made = backup.write(state, snapshot, out, keys=not without_keys, count=advance)
        said = f"Saved {made.blobs - len(made.lost)} blobs, {render(made.size)}"
        click.echo(f"{said}, and the database", err=path == "-")
        for digest in made.lost:
            click.echo(f"damaged here, so not saved: {digest}", err=True)
        if made.lost:
            click.echo(f"Run '{name} verify'; the backup is good for everything else", err=True)
        return DAMAGED if made.lost else 0

    command.help = _BACKUP.replace("NAME", name)
    return command


_BACKUP = f"""Save the database, all blobs, the configuration and the keys in one file.

May be run beside the service, which goes on: the file holds the state of one moment. Every blob is
compared with its digest on its way. Anybody who has the file can pose as this service, unless it
was made --without-keys: it is readable by its owner only, and should be kept like a key.

The exit code is {DAMAGED} when blobs are damaged here, which are then left out.

\b
Example:
  sudo NAME backup /srv/NAME-monday.tar
  sudo NAME backup - | ssh vault 'umask 077; cat > NAME-monday.tar'
"""


def restore_command(
    name: str,
    restoring: Callable[[], AbstractContextManager[tuple[Path, Callable[[bytes | None], State]]]],
    afterwards: str,
) -> click.Command:
    """Return the command `restore` of the command line `name`.

    `restoring` gives the state root, and makes its state by a configuration. `afterwards` says
    what to do next.
    """

    @click.command("restore", short_help="Bring a backup back")
    @click.argument("path", metavar="<file>|-", type=click.Path(allow_dash=True))
    @click.option("--force", is_flag=True, help="Replace a state that holds something.")
    @click.option("--without-keys", is_flag=True, help="Keep the private keys that are here.")
    @click.option(
        "--revocations",
        metavar="<file>",
        type=click.Path(),
        help="Revoke these too: what 'trust list --revoked --format json' printed.",
    )
    @click.option(
        "--accept-lost-revocations",
        is_flag=True,
        help="Go on even if the present database can't be read.",
    )
    def command(
        path: str,
        force: bool,
        without_keys: bool,
        revocations: str | None,
        accept_lost_revocations: bool,
    ) -> None:
        from regkit.progress import transfer  # noqa: PLC0415 - these cost 200 ms
        from regkit.upkeep import restore  # noqa: PLC0415

        revoked = []
        if revocations is not None:
            with click.open_file(revocations, "rb") as listed:
                revoked = restore.read_revocations(listed, revocations)
        wish = restore.Wish(
            force=force,
            keys=not without_keys,
            revoked=tuple(revoked),
            accept_lost_revocations=accept_lost_revocations,
        )
        with click.open_file(path, "rb") as file, restoring() as (home, make_state):
            done = restore.restore(
                make_state, home, file, wish, lambda size: transfer("Restoring", size)
            )
        for line in _told(done):
            click.echo(line)
        click.echo(afterwards)

    command.help = _RESTORE.replace("NAME", name)
    return command


_RESTORE = """Replace the state by that of a backup.

The service must be stopped. The whole backup is read and compared before anything is replaced; if
it isn't whole, if the disk gets full, or if this is killed, the former state is there as it was,
or else the new one, complete.

What was revoked stays revoked, however old the backup: revocations of the present database are
carried over. A list that was kept elsewhere adds to them. The configuration is restored only where
there is none, as addresses and folders are the machine's own; the keys are, so that others know
this service as before.

\b
Example:
  sudo systemctl stop NAME
  sudo NAME restore --force /srv/NAME-monday.tar
  sudo systemctl start NAME
"""


def _told(done: Restored) -> Iterator[str]:
    when = f"{done.header.created:%Y-%m-%d %H:%M} UTC"
    yield f"Restored the backup of {when}: {done.header.blobs} blobs"
    yield from (f"replaced: {path}" for path in done.replaced)
    yield from (f"still revoked: {fingerprint}" for fingerprint in done.revoked)
    yield from (f"trusted again: {fingerprint}" for fingerprint in done.trusted_again)
    yield from (f"not in the backup: {digest}" for digest in done.lost)
    yield from done.remarks


def _forget_partial(target: Path) -> None:
    """Drop what backups to the same file left that were killed: they may be as large as it."""
    if not target.parent.is_dir():
        return  # opening the file says so better
    left = re.compile(rf"\.{re.escape(target.name)}\.([0-9]+)\.partial", re.ASCII)
    for path in target.parent.iterdir():
        found = left.fullmatch(path.name)
        if found and not Path("/proc", found[1]).exists():
            path.unlink(missing_ok=True)


@contextmanager
def _output(path: str, force: bool) -> Iterator[IO[bytes]]:
    """Give the file to write; it gets its name when it is complete and durable."""
    if path == "-":
        yield sys.stdout.buffer
        return
    target = Path(path)
    if target.exists() and not force:
        raise click.ClickException(f"{path} exists: give another name, or --force")
    _forget_partial(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as out:  # noqa: PTH123 - a descriptor, not a path
            yield out
            out.flush()
            os.fsync(descriptor)
        failpoints.reach("backup.rename:before")
        temporary.rename(target)
        failpoints.reach("backup.rename:after")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
