"""secret-add, -get, -set, -grant, -revoke, -remove, -ids, -info-get: effective at commit."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from rig.errors import JujuError, UsageError
from rig.hooktools.command import Call, Tool, key_values
from rig.hooktools.relations import REFERENCE
from rig.hooktools.relations import find as find_relation
from rig.secretstate import Secret, new_id, parse_uri
from rig.state import Application, Unit

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

KEY = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9]))*")
ROTATIONS = ("never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly")


def _content(words: list[str]) -> dict[str, str]:
    """`key=value`, `key#base64=value`; the client has turned `key#file=` into the former."""
    content = {}
    for key, given in key_values(words).items():
        name, _, form = key.partition("#")
        if len(name) < 3 or not KEY.fullmatch(name) or form not in ("", "base64"):
            raise JujuError(f'secret key "{key}" not valid')
        value = given
        if form:
            try:
                value = base64.b64decode(given, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise JujuError(f'secret key "{key}" is not base64 text') from None
        content[name] = value
    return content


def _known(context: HookContext) -> list[Secret]:
    return [*context.controller.secrets.values(), *context.new_secrets.values()]


def _find(context: HookContext, uri: str) -> Secret:
    wanted = parse_uri(uri)
    found = next((s for s in _known(context) if s.id == wanted), None)
    if found is None:
        raise JujuError(f'secret "{wanted}" not found')
    return found


def _by_label(context: HookContext, label: str) -> Secret:
    unit = context.unit
    for secret in _known(context):
        if secret.labels.get(unit) == label or (secret.owned_by(unit) and secret.label == label):
            return secret
    raise JujuError(f'consumer label "{label}" not found')


def _managed(context: HookContext, uri: str) -> Secret:
    secret = _find(context, uri)
    if not secret.managed_by(context.unit):
        raise JujuError("permission denied")
    return secret


def _rotation(call: Call) -> str:
    rotate = call.text("rotate") or "never"
    if rotate not in ROTATIONS:
        raise UsageError(f'invalid rotate policy "{rotate}"')
    return rotate


def secret_add(context: HookContext, call: Call) -> str:
    """Make a secret; its URI may be used at once, others see it when the hook succeeds."""
    unit = context.unit
    owners: dict[str, Unit | Application] = {"": unit.app, "application": unit.app, "unit": unit}
    if call.text("owner") not in owners:
        raise UsageError(f'invalid owner "{call.text("owner")}"')
    owner, label = owners[call.text("owner")], call.text("label")
    if owner is unit.app and not unit.is_leader:
        raise JujuError("this unit is not the leader")
    if label and any(s.owner is owner and s.label == label for s in _known(context)):
        raise JujuError(f'secret with label "{label}" already exists')
    secret = Secret(
        new_id(),
        owner,
        {1: _content(call.words)},
        label=label,
        description=call.text("description"),
        rotate=_rotation(call),
        expire=call.text("expire"),
    )
    context.new_secrets[secret.id] = secret
    return secret.uri


def secret_get(context: HookContext, call: Call) -> Any:
    """Content; consumers stay on the revision that they first read until --refresh."""
    uri, label, unit = call.word(0), call.text("label"), context.unit
    if not uri and not label:
        raise UsageError("require either a secret URI or label")
    secret = _find(context, uri) if uri else _by_label(context, label)
    if not secret.readable_by(unit):
        raise JujuError(f'permission denied: secret "{secret.id}"')
    if secret.owned_by(unit):
        content = context.secret_content.get(secret.id, secret.revisions[secret.latest])
    else:
        if uri and label:
            secret.labels[unit] = label
        tracked = secret.tracked.get(unit)
        if call.on("refresh") or tracked is None:
            tracked = secret.tracked[unit] = secret.latest
        shown = secret.latest if call.on("peek") else tracked
        if shown not in secret.revisions:
            raise JujuError(f'secret revision "{secret.id}/{shown}" not found')
        content = secret.revisions[shown]
    keys = call.words[1:]
    if not keys:
        return dict(content)
    if keys[0] not in content:
        raise JujuError(f'"{keys[0]}" not found')
    return content[keys[0]]


def secret_set(context: HookContext, call: Call) -> None:
    """A new revision or new metadata, when the hook succeeds; equal content makes none."""
    secret = _managed(context, call.word(0))
    content, rotate = _content(call.words[1:]), _rotation(call)

    def change() -> None:
        if content and content != secret.revisions[secret.latest]:
            secret.revisions[secret.latest + 1] = content
        secret.label = call.text("label") or secret.label
        secret.description = call.text("description") or secret.description
        secret.expire = call.text("expire") or secret.expire
        if call.text("rotate"):
            secret.rotate = rotate

    if content:
        context.secret_content[secret.id] = content
    context.secret_changes.append(change)


def _consumer(context: HookContext, call: Call) -> tuple[Any, Unit | Application]:
    relation = find_relation(context, call)
    if relation.is_peer:
        raise JujuError("secrets are not granted in a peer relation")
    if relation.cross_model and relation.sides[0].app is not context.unit.app:
        raise JujuError("only the offering side can grant a secret across models")
    name = call.text("unit")
    holder = (
        relation.find_unit(name, context.unit) if name else relation.other(context.unit.app).app
    )
    if holder is None:
        raise JujuError(f'unit "{name}" not found')
    return relation, holder


def secret_grant(context: HookContext, call: Call) -> None:
    """Let the remote application (or one unit) read it while the relation lives."""
    secret = _managed(context, call.word(0))
    relation, holder = _consumer(context, call)
    context.secret_changes.append(lambda: secret.grants.update({holder: relation}))


def secret_revoke(context: HookContext, call: Call) -> None:
    """Take a grant back."""
    secret = _managed(context, call.word(0))
    if call.text("app"):
        named = [
            h for h in secret.grants if isinstance(h, Application) and h.name == call.text("app")
        ]
    else:
        named = [_consumer(context, call)[1]]

    def change() -> None:
        for holder in named:
            secret.grants.pop(holder, None)

    context.secret_changes.append(change)


def secret_remove(context: HookContext, call: Call) -> None:
    """Remove a revision, or all of it."""
    secret, revision = _managed(context, call.word(0)), call.text("revision")

    def change() -> None:
        if revision and len(secret.revisions) > 1:
            secret.revisions.pop(int(revision), None)
        else:
            context.controller.secrets.pop(secret.id, None)

    context.secret_changes.append(change)


def secret_ids(context: HookContext, call: Call) -> list[str]:
    """Ids of the secrets that this unit may change."""
    return sorted(s.id for s in _known(context) if s.managed_by(context.unit))


def secret_info_get(context: HookContext, call: Call) -> dict[str, Any]:
    """Metadata of an owned secret."""
    label = call.text("label")
    secret = _find(context, call.word(0)) if call.words else _by_label(context, label)
    if not secret.managed_by(context.unit):
        raise JujuError(f'secret "{secret.id}" not found')
    info: dict[str, Any] = {
        "revision": secret.latest,
        "label": secret.label,
        "owner": "unit" if isinstance(secret.owner, Unit) else "application",
        "rotation": secret.rotate,
    }
    if secret.description:
        info["description"] = secret.description
    if secret.expire:
        info["expiry"] = secret.expire
    return {secret.id: info}


METADATA = {
    "--label": "label",
    "--description": "description",
    "--expire": "expire",
    "--rotate": "rotate",
    "--owner": "owner",
}
GRANT = {**REFERENCE, "--unit": "unit"}
TOOLS = (
    Tool("secret-add", secret_add, options=METADATA, words=(1, 1000), prints=True),
    Tool(
        "secret-get",
        secret_get,
        options={"--label": "label"},
        switches={"--refresh": "refresh", "--peek": "peek"},
        words=(0, 2),
        prints=True,
    ),
    Tool("secret-set", secret_set, options=METADATA, words=(1, 1000)),
    Tool("secret-grant", secret_grant, options=GRANT, words=(1, 1)),
    Tool(
        "secret-revoke",
        secret_revoke,
        options={**GRANT, "--app": "app", "--application": "app"},
        words=(1, 1),
    ),
    Tool("secret-remove", secret_remove, options={"--revision": "revision"}, words=(1, 1)),
    Tool("secret-ids", secret_ids, prints=True),
    Tool(
        "secret-info-get", secret_info_get, options={"--label": "label"}, words=(0, 1), prints=True
    ),
)
