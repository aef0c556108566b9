"""`amc application …`: create, update, publish, revoke, delete, export; lists are in `listing`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from ams.amc import fields, listing, progress, wait
from ams.amc.common import (
    DeletingGroup,
    application_argument,
    finish,
    no_wait_option,
    service,
    timeout_option,
    version_argument,
)
from regkit.cli import confirm, yes_option
from regkit.errors import Invalid, NotFound


@click.group("application", cls=DeletingGroup)
def command() -> None:
    """Manage applications.

    \b
    Example:
      amc application create ./my-app
      amc application list --filter published=true
    """


for part in (
    fields.set_field,
    fields.unset_field,
    listing.list_applications,
    listing.show,
    wait.command,
):
    command.add_command(part)

package_path = click.Path(path_type=Path, readable=False)


@command.command()
@click.argument("package", metavar="<directory>|<archive>", type=package_path)
@click.option("--vm", is_flag=True, help="Run the application in virtual machines.")
@timeout_option
@no_wait_option
def create(package: Path, vm: bool, timeout: timedelta, no_wait: bool) -> None:
    """Create an application from a package: a directory, .tar.bz2, .tar.gz, .tar.xz or .zip.

    Prints the id of the new application.

    \b
    Example:
      amc application create ./my-app
      amc application create my-app.tar.bz2
    """
    from ams.amc.upload import payload  # noqa: PLC0415

    with service() as client, payload(package) as body:
        with progress.transfer(f"Uploading {package.name}", body.size) as advance:
            chunks = progress.counted(body.chunks(), advance)
            operation = client.create_application(chunks, body.size, body.sha256, vm=vm)
        with progress.operation("Creating the application") as watcher:
            operation = finish(client, operation, timeout, no_wait=no_wait, watcher=watcher)
    for url in operation.resources.get("applications", ()):
        click.echo(url.rsplit("/", 1)[-1])


@command.command()
@application_argument
@click.argument("package", metavar="[<directory>|<archive>]", type=package_path, required=False)
@timeout_option
@no_wait_option
def update(application: str, package: Path | None, timeout: timedelta, no_wait: bool) -> None:
    """Add a new version to an application, from a package with the same name in its manifest.

    Without a package nothing is changed: an application here has nothing to be rebuilt from.

    \b
    Example:
      amc application update my-app ./my-app
    """
    from ams.amc.upload import payload  # noqa: PLC0415

    with service() as client:
        item = client.application(application)  # say so before gigabytes are sent for nothing
        if package is None:
            operation = client.change_application(item.id, {})
        else:
            with (
                payload(package) as body,
                progress.transfer(f"Uploading {package.name}", body.size) as advance,
            ):
                chunks = progress.counted(body.chunks(), advance)
                operation = client.update_application(item.id, chunks, body.size, body.sha256)
        with progress.operation("Updating the application") as watcher:
            finish(client, operation, timeout, no_wait=no_wait, watcher=watcher)


@command.command()
@application_argument
@version_argument
@timeout_option
@no_wait_option
def publish(application: str, number: int, timeout: timedelta, no_wait: bool) -> None:
    """Publish a version of an application.

    \b
    Example:
      amc application publish my-app 0
    """
    with service() as client:
        operation = client.publish(application, number, published=True)
        finish(client, operation, timeout, no_wait=no_wait)


@command.command()
@application_argument
@version_argument
@timeout_option
@no_wait_option
def revoke(application: str, number: int, timeout: timedelta, no_wait: bool) -> None:
    """Revoke a published version of an application.

    \b
    Example:
      amc application revoke my-app 0
    """
    with service() as client:
        operation = client.publish(application, number, published=False)
        finish(client, operation, timeout, no_wait=no_wait)


@command.command()
@click.argument("application", metavar="[<id>|<name>]", required=False)
@click.option("-a", "--all", "every", is_flag=True, help="Delete all applications.")
@click.option("-f", "--force", is_flag=True, help="Delete even what the registry owns.")
@click.option(
    "-v", "--version", "number", type=click.IntRange(min=0), help="Delete only this version."
)
@timeout_option
@no_wait_option
@yes_option
def delete(  # noqa: PLR0917 - click passes them by name
    application: str | None,
    every: bool,
    force: bool,
    number: int | None,
    timeout: timedelta,
    no_wait: bool,
    yes: bool,
) -> None:
    """Delete an application, or one of its versions.

    An application that came from the registry can only be deleted with --force.

    \b
    Example:
      amc application delete my-app
      amc application delete my-app --version 0 --yes
    """
    if every == (application is not None):
        raise click.UsageError("give either an application or --all")
    if every and number is not None:
        raise click.UsageError("--version needs one application, not --all")
    with service() as client:
        found = client.applications() if every else [client.application(application or "")]
        if not found:
            click.echo("There are no applications")
            return
        only = found[0]
        if number is not None and all(v.get("number") != number for v in only.versions):
            raise NotFound(f"application {only.name!r} has no version {number}")
        if not yes:
            what = "application" if len(found) == 1 else "applications"
            version = "" if number is None else f" (version {number} only)"
            click.echo(f"The following {what} will be REMOVED:")
            for item in found:
                click.echo(f"  - {item.name}{version}")
            confirm()
        if number is not None:
            operation = client.delete_version(only.id, number, force=force)
        elif every:
            operation = client.delete_applications([item.id for item in found], force=force)
        else:
            operation = client.delete_application(only.id, force=force)
        finish(client, operation, timeout, no_wait=no_wait)


@command.command()
@application_argument
@version_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, readable=False),
    help="File or folder to write to; the current folder otherwise.",
)
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
def export(application: str, number: int, output: Path | None, force: bool) -> None:
    """Export a version of an application as a package archive, and print the file's name.

    \b
    Example:
      amc application export my-app 0
    """
    from ams.amc.download import save  # noqa: PLC0415

    with service() as client, client.export(application, number) as download:
        target = output or Path()
        if target.is_dir():
            target = target / (download.filename or f"{application}_{number}.tar.bz2")
        if target.exists() and not force:
            raise Invalid(f"{target} exists already: give --force or another --output")
        with progress.transfer(f"Downloading {target.name}", download.size) as advance:
            save(target, progress.counted(download.chunks, advance), download.sha256)
    click.echo(target)
