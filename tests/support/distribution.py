"""The client's side of the distribution API and of an application push, briefly.

For tests that need something in a registry. `http` is any requests session whose URLs may be given
as paths, such as `support.registry.RegistrySession`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import requests

from regkit.oci.application import ApplicationImage, Key, PackageFile, build
from regkit.oci.digest import Digest
from regkit.oci.manifests import INDEX, MANIFEST
from regkit.oci.names import repository_of

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "digest": digest_of(content),
        "size": len(content),
        **more,
    }


def image_manifest(*layers: bytes, **more: Any) -> bytes:
    """The bytes of an image manifest with an empty config; `more` are further keys."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(EMPTY, EMPTY_TYPE),
            "layers": [descriptor(layer, LAYER_TYPE) for layer in layers],
            **more,
        }
    ).encode()


def index_manifest(*manifests: bytes, **more: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(manifest, MANIFEST) for manifest in manifests],
            **more,
        }
    ).encode()


def push_blob(http: requests.Session, repository: str, content: bytes) -> str:
    """Push one blob in a single POST (end-4b); returns its digest."""
    digest = digest_of(content)
    response = http.post(
        f"/v2/{repository}/blobs/uploads/", params={"digest": digest}, data=content or b""
    )
    assert response.status_code == 201, (response.status_code, response.text)
    return digest


def put_manifest(
    http: requests.Session,
    repository: str,
    reference: str,
    content: bytes,
    media_type: str = MANIFEST,
) -> requests.Response:
    return http.put(
        f"/v2/{repository}/manifests/{reference}",
        data=content,
        headers={"Content-Type": media_type},
    )


def push_image(
    http: requests.Session, repository: str, reference: str, *layers: bytes, **more: Any
) -> str:
    """Push a plain image and all it needs; returns the manifest's digest."""
    for blob in {EMPTY, *layers}:
        push_blob(http, repository, blob)
    content = image_manifest(*layers, **more)
    response = put_manifest(http, repository, reference, content)
    assert response.status_code == 201, (response.status_code, response.text)
    return digest_of(content)


def application_parts(
    name: str,
    number: int = 0,
    architecture: str = "amd64",
    files: Mapping[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
) -> tuple[Key, bytes, bytes, Mapping[str, bytes]]:
    """Build a small application: its key, manifest, config, and files by path."""
    files = {"app.apk": b"apk of " + name.encode()} if files is None else files
    key = Key(name, number, architecture)
    image = ApplicationImage(
        key,
        {"name": name, "instance-type": "a4.3", "tags": list(tags)},
        tuple(PackageFile(path, Digest.of(data), len(data)) for path, data in files.items()),
    )
    config, manifest = build(image)
    return key, manifest, config, files


def push_application(
    http: requests.Session,
    name: str,
    number: int = 0,
    architecture: str = "amd64",
    files: Mapping[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
) -> str:
    """Push an application version as AMS does; returns the manifest's digest."""
    key, manifest, config, contents = application_parts(name, number, architecture, files, tags)
    repository = repository_of(name)
    for blob in {config, *contents.values()}:
        push_blob(http, repository, blob)
    response = put_manifest(http, repository, key.tag, manifest)
    assert response.status_code == 201, (response.status_code, response.text)
    return digest_of(manifest)


def codes(response: requests.Response) -> list[str]:
    """The error codes of an answer, each error checked to have the specification's form."""
    errors = response.json()["errors"]
    for error in errors:
        assert set(error) <= {"code", "message", "detail"}, error
        assert error["message"], error
    return [error["code"] for error in errors]
