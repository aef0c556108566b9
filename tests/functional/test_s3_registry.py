"""`aar serve` on a bucket: pushing, downloads by redirect, uploads resumed by another worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from regkit.oci.digest import Digest
from regkit.storage import S3Storage
from support import engines, radosgw
from support.distribution import codes, digest_of, push_application, push_blob
from support.radosgw import SECRET_KEY, RadosGateway
from support.registry import RunningRegistry, running

MIB = 1024 * 1024
LARGE = bytes(range(256)) * 4096 * 21  # 21 MiB: two parts and a rest


@pytest.fixture(scope="module")
def gateway() -> RadosGateway:
    return engines.radosgw()


@pytest.fixture(scope="module")
def prefix(gateway: RadosGateway) -> str:
    return gateway.new_prefix()


@pytest.fixture(scope="module")
def server(
    gateway: RadosGateway, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningRegistry]:
    storage = {"storage": {"s3": gateway.settings(prefix, **{"redirect-for": "30s"})}}
    home = tmp_path_factory.mktemp("s3")
    with running(home, workers=2, settings=storage) as server:
        yield server


@pytest.fixture(scope="module")
def direct(gateway: RadosGateway) -> Iterator[requests.Session]:
    """A client that knows nothing but the authority of the S3 server."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(gateway.authority.certificate)
        yield session


def fetch(server: RunningRegistry, direct: requests.Session, path: str, **headers: str):
    answer = server.client.get(path, headers=headers, allow_redirects=False)
    assert answer.status_code == 307, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return direct.get(answer.headers["Location"], headers=headers, timeout=60)


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_blob_is_pushed_and_fetched_from_the_bucket(server, direct, content: bytes):
    digest = push_blob(server.publisher, "s3/blob", content)
    path = f"/v2/s3/blob/blobs/{digest}"
    head = server.client.head(path)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
    answer = fetch(server, direct, path)
    assert (answer.status_code, digest_of(answer.content)) == (200, digest)
    part = fetch(server, direct, path, Range="bytes=2-3")
    assert (part.status_code, part.content) == (206, content[2:4])


def test_only_whoever_is_trusted_gets_a_link(server):
    digest = push_blob(server.publisher, "s3/trust", b"for clients")
    path = f"/v2/s3/trust/blobs/{digest}"
    assert server.stranger.get(path, allow_redirects=False).status_code == 403
    again = server.add_session("client")
    assert again.get(path, allow_redirects=False).status_code == 307
    server.revoke(again)
    assert again.get(path, allow_redirects=False).status_code == 403


def test_the_server_refuses_forged_and_expired_links(server, direct, gateway, prefix):
    digest = push_blob(server.publisher, "s3/forged", b"guarded")
    path = f"/v2/s3/forged/blobs/{digest}"
    link = server.client.get(path, allow_redirects=False).headers["Location"]
    assert direct.get(link, timeout=60).status_code == 200
    start, _, signature = link.partition("X-Amz-Signature=")
    forged = start + "X-Amz-Signature=" + ("0" if signature[0] != "0" else "1") + signature[1:]
    assert direct.get(forged, timeout=60).status_code == 403
    assert direct.get(link.partition("?")[0], timeout=60).status_code == 403
    client = gateway.client()
    key = link.partition("?")[0].partition("/blobs/")[2]
    brief = client.generate_presigned_url(
        "get_object", Params={"Bucket": "blobs", "Key": key}, ExpiresIn=1
    )
    server.until(lambda: direct.get(brief, timeout=60).status_code == 403)
    client.close()


def test_a_published_application_can_be_pulled(server, direct):
    files = {"app.apk": LARGE[: 9 * MIB], "assets/a.obb": b"a" * 1000}
    push_application(server.publisher, "candy", files=files)
    manifest = server.client.get("/v2/candy/manifests/0-amd64").json()
    for layer in manifest["layers"]:
        answer = fetch(server, direct, f"/v2/candy/blobs/{layer['digest']}")
        assert digest_of(answer.content) == layer["digest"]


def test_chunks_of_any_size_are_resumed_by_whichever_worker(server, direct):
    location = server.publisher.post("/v2/s3/chunks/blobs/uploads/").headers["Location"]
    start = 0
    for size in (1, 3 * MIB, 9 * MIB + 1, 100, 6 * MIB):
        chunk = LARGE[start : start + size]
        other = server.new_session(server.publisher.identity)  # another connection
        answer = other.patch(
            location, data=chunk, headers={"Content-Range": f"{start}-{start + size - 1}"}
        )
        assert answer.status_code == 202, answer.text
        start += size
        assert answer.headers["Range"] == f"0-{start - 1}"
        status = other.get(location)
        assert (status.status_code, status.headers["Range"]) == (204, f"0-{start - 1}")
    digest = digest_of(LARGE[:start])
    end = server.publisher.put(f"{location}?digest={digest}")
    assert end.status_code == 201, end.text
    assert digest_of(fetch(server, direct, f"/v2/s3/chunks/blobs/{digest}").content) == digest
    assert server.publisher.get(location).status_code == 404


def test_wrong_content_is_never_a_blob(server, gateway, prefix):
    wrong = digest_of(b"something else")
    answer = server.publisher.post(
        "/v2/s3/wrong/blobs/uploads/", params={"digest": wrong}, data=LARGE
    )
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert server.client.head(f"/v2/s3/wrong/blobs/{wrong}").status_code == 404
    location = server.publisher.post("/v2/s3/wrong/blobs/uploads/").headers["Location"]
    server.publisher.patch(location, data=LARGE)
    other = server.new_session(server.publisher.identity)
    assert codes(other.put(f"{location}?digest={wrong}")) == ["DIGEST_INVALID"]
    assert not [key for key in gateway.keys(f"{prefix}blobs/") if wrong[7:] in key]


def test_mounting_and_deleting(server, direct):
    digest = push_blob(server.publisher, "s3/source", b"shared content")
    answer = server.publisher.post(
        "/v2/s3/target/blobs/uploads/", params={"mount": digest, "from": "s3/source"}
    )
    assert answer.status_code == 201
    assert fetch(server, direct, f"/v2/s3/target/blobs/{digest}").content == b"shared content"
    assert server.publisher.delete(f"/v2/s3/source/blobs/{digest}").status_code == 202
    assert server.client.get(f"/v2/s3/source/blobs/{digest}").status_code == 404
    assert fetch(server, direct, f"/v2/s3/target/blobs/{digest}").status_code == 200


def test_the_secret_is_nowhere(server, gateway):
    push_blob(server.publisher, "s3/secret", b"x")
    assert SECRET_KEY not in server.log
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"aar" in line:
            assert SECRET_KEY.encode() not in line
    (server.home / "conf" / "main.yaml").chmod(0o644)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aar", "trust", "list"],
            env={**os.environ, "AAR_HOME": str(server.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "holds a secret, and everybody may read it" in done.stderr
        assert SECRET_KEY not in done.stderr + done.stdout
    finally:
        (server.home / "conf" / "main.yaml").chmod(0o600)


def test_a_blob_larger_than_any_request_may_be(tmp_path: Path):
    """5 GiB on AWS and by default, here 9 MiB: pushed, continued, copied, always in parts."""
    if reason := radosgw.missing():
        engines.unavailable(reason)
    from botocore.exceptions import ClientError  # noqa: PLC0415 - an optional engine

    from regkit.blobs.s3 import S3BlobStore  # noqa: PLC0415

    limit = 9 * MIB
    with radosgw.running({"rgw_max_put_size": str(limit)}) as small:
        client = small.client()
        with pytest.raises(ClientError, match="EntityTooLarge"):
            client.put_object(Bucket=radosgw.BUCKET, Key="one", Body=bytes(limit + 1))
        client.close()
        settings = small.settings(small.new_prefix())
        with running(tmp_path, settings={"storage": {"s3": settings}}) as server:
            digest = push_blob(server.publisher, "large", LARGE)
            with requests.Session() as direct:
                direct.trust_env = False
                direct.verify = str(small.authority.certificate)
                assert fetch(server, direct, f"/v2/large/blobs/{digest}").content == LARGE
        # What is whole is continued, and cut: the server copies it to a new upload.
        settings = small.settings(small.new_prefix())
        store = S3BlobStore(S3Storage.model_validate(settings), copied=limit)
        longer, shorter = LARGE + b"more", LARGE[: 20 * MIB]
        with store.stage("u1") as staged:
            staged.write(LARGE)
            staged.seal(Digest.of(LARGE))
            staged.write(b"more")
            staged.seal(Digest.of(longer))
            staged.truncate(len(shorter))
            staged.seal(Digest.of(shorter))
            staged.publish()
        assert b"".join(store.read(Digest.of(shorter))) == shorter
        store.close()
