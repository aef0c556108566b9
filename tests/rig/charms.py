"""Read a packed charm: what the model needs of its metadata, options and actions.

Responsible for validating option values and action parameters as Juju does; not for running it.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import yaml

from rig.errors import JujuError

ROLES = {"provides": "provider", "requires": "requirer", "peers": "peer"}


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One named end of relations; `role` is provider, requirer or peer."""

    name: str
    role: str
    interface: str
    limit: int | None = None  # most relations at once, when the charm says so


@dataclasses.dataclass(frozen=True, eq=False)
class Charm:
    """A charm's declarations. `path` is the .charm file, None for one that only tests know."""

    name: str
    endpoints: dict[str, Endpoint]
    options: dict[str, dict[str, Any]]
    actions: dict[str, dict[str, Any]]
    bindings: frozenset[str] = frozenset()
    bases: tuple[dict[str, str], ...] = ({"name": "ubuntu", "channel": "24.04"},)
    files: frozenset[str] = frozenset({"dispatch"})
    path: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Charm:
        """Read a `.charm` file; JujuError when it is none."""
        try:
            with zipfile.ZipFile(path) as archive:
                names = frozenset(archive.namelist())

                def document(name: str) -> dict[str, Any]:
                    return (yaml.safe_load(archive.read(name)) or {}) if name in names else {}

                return cls.of(
                    document("metadata.yaml"),
                    config=document("config.yaml"),
                    actions=document("actions.yaml"),
                    manifest=document("manifest.yaml"),
                    files=names,
                    path=path,
                )
        except FileNotFoundError:
            raise JujuError(f'charm or bundle not found: "{path}"') from None
        except (zipfile.BadZipFile, yaml.YAMLError, KeyError) as error:
            raise JujuError(f"cannot read charm {path}: {error!r}") from error

    @classmethod
    def of(
        cls,
        metadata: dict[str, Any],
        *,
        config: dict[str, Any] | None = None,
        actions: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        files: frozenset[str] = frozenset({"dispatch"}),
        path: Path | None = None,
    ) -> Charm:
        """From the parsed documents, as charmcraft writes them."""
        endpoints = {
            name: Endpoint(name, role, body["interface"], body.get("limit"))
            for section, role in ROLES.items()
            for name, body in (metadata.get(section) or {}).items()
        }
        bases = (manifest or {}).get("bases") or [{"name": "ubuntu", "channel": "24.04"}]
        return cls(
            name=metadata["name"],
            endpoints=endpoints,
            options=(config or {}).get("options") or {},
            actions={n: body or {} for n, body in (actions or {}).items()},
            bindings=frozenset(metadata.get("extra-bindings") or {}),
            bases=tuple({"name": b["name"], "channel": str(b["channel"])} for b in bases),
            files=files,
            path=path,
        )

    def entry_point(self, dispatch_path: str) -> str | None:
        """The file that runs for `hooks/x` or `actions/x`; None when the charm has none."""
        return next((f for f in ("dispatch", dispatch_path) if f in self.files), None)

    # ---- options

    def defaults(self) -> dict[str, Any]:
        """Options that have a default."""
        declared = {name: body.get("default") for name, body in self.options.items()}
        return {name: value for name, value in declared.items() if value is not None}

    def parse_option(self, name: str, text: str) -> Any:
        """The value of `name=text` on a command line, in the option's own type."""
        if name not in self.options:
            raise JujuError(f'unknown option "{name}"')
        kind = self.options[name].get("type", "string")
        try:
            match kind:
                case "int":
                    return int(text)
                case "float":
                    return float(text)
                case "boolean":
                    return {"true": True, "false": False}[text.lower()]
                case "secret":
                    if text and not text.startswith("secret:"):
                        raise ValueError(text)
                    return text
                case _:
                    return text
        except (ValueError, KeyError):
            raise JujuError(f'option "{name}" expected {kind}, got "{text}"') from None

    # ---- actions

    def parse_parameters(self, action: str, given: dict[str, Any]) -> dict[str, Any]:
        """`given` with defaults filled in, after the checks of the action's schema."""
        schema = self.actions[action]
        declared: dict[str, Any] = schema.get("params") or {}
        values = {k: v["default"] for k, v in declared.items() if "default" in (v or {})} | given
        for name in schema.get("required") or []:
            if name not in values:
                raise JujuError(
                    f'validation failed: (root) : "{name}" property is missing and required, '
                    f"given {given}"
                )
        if not schema.get("additionalProperties", True):
            for name in values:
                if name not in declared:
                    raise JujuError(
                        f'validation failed: (root) : additional property "{name}" not allowed, '
                        f"given {given}"
                    )
        for name, value in values.items():
            self._check(name, value, declared.get(name) or {})
        return values

    @staticmethod
    def _check(name: str, value: Any, schema: dict[str, Any]) -> None:
        kinds: dict[str, tuple[type, ...]] = {
            "string": (str,),
            "integer": (int,),
            "number": (int, float),
            "boolean": (bool,),
            "array": (list,),
            "object": (dict,),
        }
        kind, where = schema.get("type"), f"validation failed: (root).{name} :"
        wanted = kinds.get(kind, (object,)) if isinstance(kind, str) else (object,)
        mismatch = not isinstance(value, wanted)
        if mismatch or (isinstance(value, bool) and kind in ("integer", "number")):
            raise JujuError(f"{where} must be of type {kind}, given {value!r}")
        if "enum" in schema and value not in schema["enum"]:
            raise JujuError(f"{where} must be one of {schema['enum']}, given {value!r}")
