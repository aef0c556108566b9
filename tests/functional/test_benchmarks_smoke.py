"""The benchmarks run: one tiny round each of those that need none of the peers' packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import benches
from support.benches import DriverFailed, Lab

PYTHON = benches.environment.driver_python()

needs_pycurl = pytest.mark.skipif(
    PYTHON is None, reason="pycurl isn't installed: ./dev bench makes an environment with it"
)


@needs_pycurl
@pytest.mark.parametrize("name", ["small", "poll", "push", "fleet", "sync"])
def test_measures(name: str, tmp_path: Path) -> None:
    printed, reports = benches.run(tmp_path, name)
    report = reports[name]
    assert report["quick"] and report["rounds"] == 1
    assert f"## {report['title']}" in printed
    assert (tmp_path / "out" / "README.md").read_text().startswith("# Results")
    for row in report["rows"]:
        assert row["median"] > 0, row
        assert all(sample["peak"] > 0 for sample in row["samples"]), row
    assert any(row["cpu_per_work"] > 0 for row in report["rows"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "something was left behind"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert PYTHON is not None
    with Lab(PYTHON, tmp_path_factory.mktemp("lab"), ["aar"]) as made:
        yield made


@needs_pycurl
@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"sha256": "0" * 64}, "another digest"),
        ({"file": "other"}, "other content"),
        ({"file": "longer"}, "too few"),
        ({"status": 206}, "status 200, not 206"),
    ],
)
def test_a_wrong_answer_is_no_figure(lab: Lab, wanted: dict[str, str], why: str) -> None:
    folder = lab.room("content")
    blob = benches.blob(folder, "blob", 300_000)
    made = benches.make_application(folder, f"wrong-{blob.digest.hex[:8]}", (blob,))
    benches.blob(folder, "other", blob.size)
    (folder / "longer").write_bytes(blob.path.read_bytes() + b"more")
    if "file" in wanted:
        wanted = {"file": str(folder / wanted["file"])}
    server = lab.server("aar")
    server.put(made, lab.publisher)
    url = f"{server.url}/v2/{made.repository}/blobs/{blob.digest}"
    right = lab.job("load", targets=[{"url": url, "file": str(blob.path)}], connections=2, count=6)
    outcome, used = lab.run(server, [right])
    assert (outcome.done, outcome.moved) == (6, 6 * blob.size)
    assert used.peak > 0
    wrong = lab.job(
        "load",
        targets=[{"url": url, **wanted}],
        warm={"url": f"{server.url}/v2/"},
        connections=1,
        count=1,
    )
    with pytest.raises(DriverFailed, match=why):
        lab.run(server, [wrong])


@needs_pycurl
def test_a_stranger_gets_no_figure(lab: Lab) -> None:
    server = lab.server("aar")
    job = lab.job("load", lab.crowd(1), targets=[{"url": f"{server.url}/v2/"}], connections=1)
    with pytest.raises(DriverFailed, match="status 403"):
        lab.run(server, [job])


@needs_pycurl
def test_all_servers_agree_on_one_cipher(lab: Lab) -> None:
    server = lab.server("aar")
    assert server.cipher(lab.client) == "TLSv1.3 TLS_AES_128_GCM_SHA256"
    assert lab.ciphers() == ["aar: TLSv1.3 TLS_AES_128_GCM_SHA256, HTTP/1.1, client certificate"]
