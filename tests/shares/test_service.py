"""The service of one share: the share's own answers, and nothing for those who may not ask."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from starlette.testclient import TestClient

import sheafalign_fl as sf
from experiments.service_load import asked, largest_body, served
from sheafalign_fl.deploy.bounded import Limits
from sheafalign_fl.deploy.share_service import ShareService, share_app
from sheafalign_fl.extras import EXTRAS
from sheafalign_fl.shares.model import Model
from tests.shares.conftest import Recorded
from tests.system.command import environment, free_port, sheafalign

TOKEN = "a token of the tests"
LIMITS = Limits(body_bytes=300_000, events=200, neighbours=20, numbers=1500)


@pytest.fixture(scope="module")
def model(recorded: Recorded) -> Model:
    """Load all shares: the oracle."""
    return sf.load_model(recorded.path)


@pytest.fixture(scope="module")
def client(recorded: Recorded, model: Model) -> Iterator[TestClient]:
    """Return who may ask the service of the thermometer."""
    train = recorded.raw("thermometer", "train")
    alone = sf.load_model(recorded.path / "shares/thermometer")
    labels = recorded.label[recorded.rows("train")]
    head = alone.fit_head(labels, {"thermometer": train})
    service = ShareService(alone["thermometer"], LIMITS, head, train)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(share_app(service, TOKEN), headers=headers) as made:
        yield made


def test_it_answers_what_the_share_answers(
    recorded: Recorded, model: Model, client: TestClient
) -> None:
    x = recorded.raw("thermometer", "test")[:5]
    share = model["thermometer"]
    made = client.post("/embed", json={"x": x.tolist()}).json()["embedding"]
    assert np.array_equal(np.float32(made), share.embed(x))
    answer = client.post("/compare/imu", json={"x": x.tolist()}).json()
    assert np.array_equal(np.float32(answer["z"]), np.asarray(share.compare("imu", x)))
    assert answer["run_id"] == share.facts.run_id
    assert client.get("/share").json()["digest"] == share.facts.digest


def test_it_stands_in_and_searches(recorded: Recorded, model: Model, client: TestClient) -> None:
    rows = recorded.rows("test")[:6]
    others = ("camera", "imu")
    z = {name: model[name].compare("thermometer", recorded.x[name][rows]) for name in others}
    given = {name: np.asarray(values).tolist() for name, values in z.items()}
    made = client.post("/impute", json={"received": given}).json()
    expected = model.impute("thermometer", z)
    assert np.array_equal(np.float32(made["embedding"]), expected.values)
    assert made["error"] == expected.error.tolist()
    assert made["floor"] == expected.floor
    body = {"received": {"camera": given["camera"]}}
    stood_in = client.post("/compare/imu", json=body).json()
    alone = model.impute("thermometer", {"camera": z["camera"]}).values
    for_imu = model["thermometer"].restrict("imu", alone)
    assert np.array_equal(np.float32(stood_in["z"]), np.asarray(for_imu))
    assert stood_in["stood_in_for"]
    found = client.post("/search/imu", json={"z": given["imu"], "k": 4}).json()
    among = recorded.raw("thermometer", "train")
    oracle = model.search(("imu", z["imu"]), ("thermometer", among), k=4)
    assert found == {"rows": oracle.rows.tolist(), "scores": oracle.scores.tolist()}


def test_classes_of_a_sensor_and_of_its_stand_in(
    recorded: Recorded, model: Model, client: TestClient
) -> None:
    rows = recorded.rows("test")
    truth = recorded.label[rows]
    own = client.post("/classify", json={"x": recorded.x["thermometer"][rows].tolist()}).json()
    assert not own["stood_in_for"]
    assert np.mean(np.array(own["labels"]) == truth) > 0.8
    assert np.allclose(np.sum(own["probabilities"], axis=1), 1)
    z = {
        name: np.asarray(model[name].compare("thermometer", recorded.x[name][rows])).tolist()
        for name in ("camera", "imu")
    }
    stood_in = client.post("/classify", json={"received": z}).json()
    assert stood_in["stood_in_for"]
    assert np.mean(np.array(stood_in["labels"]) == truth) > 0.6  # chance is 0.25


REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "shape": ("/embed", {"x": [[1.0]]}, 400, "x has shape (1, 1)"),
    "units": ("/embed", {"x": [[1e6] * 6] * 5}, 400, "where training saw"),
    "ragged": ("/embed", {"x": [[1.0], [1.0, 2.0]]}, 400, "all of one length"),
    "text": ("/embed", {"x": ["a"]}, 400, "nested lists of numbers"),
    "no events": ("/embed", {"x": []}, 400, "client 'thermometer'"),
    "unknown key": ("/embed", {"x": [[1.0]], "y": 1}, 422, "extra_forbidden"),
    "no body": ("/embed", None, 422, "missing"),
    "many events": ("/embed", {"x": [[0.0]] * 201}, 413, "201 events; at most 200"),
    "a large answer": (
        "/embed", {"x": [[0.0] * 6] * 200}, 413, "has 1600 numbers, at most 1500: ask for 187",
    ),
    "a large search": ("/search/imu", {"z": [[1.0] * 6] * 100, "k": 20}, 413, "4000 numbers"),
    "itself": ("/compare/imu", {"received": {"imu": [[1.0] * 6]}}, 422, "itself cannot stand in"),
    "neither": ("/compare/imu", {}, 422, "give x, or received"),
    "stranger": ("/compare/sonar", {"x": [[1.0] * 6]}, 404, "shares no space with 'sonar'"),
    "z of another size": ("/impute", {"received": {"imu": [[1.0]]}}, 400, "not (N, 6)"),
    "another run": (
        "/impute", {"received": {"imu": [[1.0] * 6]}, "run_id": "0" * 32}, 400, "another run",
    ),
    "nobody": ("/impute", {"received": {}}, 400, "one neighbour or more"),
    "k": ("/search/imu", {"z": [[1.0] * 6], "k": 21}, 413, "at most 20"),
    "empty gallery": ("/search/imu", {"z": [[1.0] * 6], "gallery": []}, 400, "thermometer"),
    "both": ("/classify", {"x": [[1.0]], "received": {}}, 422, "give x, or received"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_a_4xx_with_its_reason(name: str, client: TestClient) -> None:
    path, body, status, reason = REFUSED[name]
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert reason in answer.text


def test_a_single_odd_reading_is_answered_with_a_warning(
    recorded: Recorded, model: Model, client: TestClient
) -> None:
    answer = client.post("/embed", json={"x": [[1e6] * 6]}).json()
    assert "one event cannot show whether that is odd" in answer["careful"][0]
    expected = model["thermometer"].embed([[1e6] * 6], check_units=False)
    assert np.array_equal(np.float32(answer["embedding"]), expected)
    usual = recorded.raw("thermometer", "test")[:1].tolist()
    assert "careful" not in client.post("/embed", json={"x": usual}).json()
    asked = {"z": [[1.0] * 6], "k": 1}
    found = client.post("/search/imu", json={**asked, "gallery": [[1e6] * 6]}).json()
    assert found["careful"] == answer["careful"]
    for gallery in ({"gallery": usual}, {}):
        assert "careful" not in client.post("/search/imu", json={**asked, **gallery}).json()


def test_not_a_number_is_refused(client: TestClient) -> None:
    answer = client.post("/embed", content=b'{"x": [[NaN, 1, 1, 1, 1, 1]]}')
    assert answer.status_code in (400, 422)
    assert "NaN" in answer.text or "JSON" in answer.text


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"[" * 200_000, {}),
        (b"x" * 300_001, {}),
        (b"", {"content-length": str(10**10)}),
    ],
    ids=["deep", "long", "a length stated"],
)
def test_nothing_is_read_that_is_too_large(
    body: bytes, headers: dict[str, str], client: TestClient
) -> None:
    answer = client.post("/embed", content=body, headers=headers)
    assert answer.status_code == 413


def test_nobody_asks_without_the_token(client: TestClient) -> None:
    for shown in ("", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}"):
        for path in ("/share", "/embed", "/impute", "/nothing"):
            answer = client.post(path, json={}, headers={"authorization": shown})
            assert answer.status_code == 401
    assert client.get("/health", headers={"authorization": ""}).json() == {"status": "ok"}
    page = client.get("/docs", headers={"authorization": ""}).text
    assert "/assets/swagger-ui-bundle.js" in page
    assert "https://cdn" not in page
    assert client.get("/assets/swagger-ui.css", headers={"authorization": ""}).status_code == 200
    paths = client.get("/openapi.json", headers={"authorization": ""}).json()["paths"]
    assert {"/embed", "/compare/{neighbour}", "/impute", "/classify"} <= set(paths)


@pytest.mark.slow
def test_a_slim_install_serves_the_same_bits(recorded: Recorded, tmp_path: Path) -> None:
    """Without any package that an extra brings: importing one fails, as if it was not installed."""
    shutil.copytree(recorded.path / "shares/imu", tmp_path / "imu")  # and nothing of the run
    x = recorded.raw("imu", "test")
    np.save(tmp_path / "x.npy", x)
    lacking = sorted({*EXTRAS, "swagger_ui_bundle"})
    script = (
        f"import sys, importlib.util\nsys.modules.update(dict.fromkeys({lacking}))\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name in {lacking} else found(name)\n"
        "import numpy as np\nimport sheafalign_fl as sf\n"
        "from starlette.testclient import TestClient\n"
        "from sheafalign_fl.deploy.bounded import Limits\n"
        "from sheafalign_fl.deploy.share_service import ShareService, share_app\n"
        "x, share = np.load('x.npy'), sf.load_share('imu')\n"
        "np.save('h.npy', share.embed(x))\n"
        "with TestClient(share_app(ShareService(share, Limits()), None)) as client:\n"
        "    answer = client.post('/embed', json={'x': x[:3].tolist()})\n"
        "np.save('served.npy', np.float32(answer.json()['embedding']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    share = sf.load_model(recorded.path)["imu"]
    assert np.load(tmp_path / "h.npy").tobytes() == share.embed(x).tobytes()
    assert np.load(tmp_path / "served.npy").tobytes() == share.embed(x[:3]).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--host", "0.0.0.0"), "can be reached from other machines"),
        (("--certificate", "c.pem"), "give --certificate and --key together"),
        (("--token-file", "nowhere"), "nowhere cannot be read"),
    ],
)
def test_an_open_door_is_refused_in_one_line(
    recorded: Recorded, words: tuple[str, ...], line: str
) -> None:
    done = sheafalign("serve", str(recorded.path), "--client", "imu", *words)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = folder / "service.crt", folder / "service.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@contextmanager
def serving(port: int, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `sheafalign serve` in a process."""
    program = str(Path(sys.executable).parent / "sheafalign")
    process = subprocess.Popen(
        [program, "serve", *words, "--port", str(port)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_real_service_with_tls_ends_well_when_told(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    crt, key = certificate(tmp_path)
    port = free_port()
    share = sf.load_model(recorded.path)["imu"]
    x = recorded.raw("imu", "test")[:3]
    words = (
        str(recorded.path / "shares/imu"), "--client", "imu", "--token-file",
        str(tmp_path / "token"), "--certificate", str(crt), "--key", str(key),
    )  # fmt: skip
    verify = ssl.create_default_context(cafile=str(crt))
    with (
        serving(port, *words) as process,
        httpx.Client(verify=verify, trust_env=False, timeout=60) as client,
    ):
        url = f"https://localhost:{port}"
        limit = time.monotonic() + 120
        while True:
            try:
                assert client.get(f"{url}/health").json() == {"status": "ok"}
                break
            except httpx.TransportError:
                assert time.monotonic() < limit
                assert process.poll() is None, process.stdout and process.stdout.read()
                time.sleep(0.2)
        assert client.post(f"{url}/embed", json={"x": x.tolist()}).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = client.post(f"{url}/embed", json={"x": x.tolist()}, headers=headers)
        assert np.array_equal(np.float32(answer.json()["embedding"]), share.embed(x))
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


@pytest.mark.slow
def test_many_large_requests_at_a_time_take_little_more_memory_than_one(
    recorded: Recorded,
) -> None:
    mebi = 1024 * 1024
    worst, x = largest_body(mebi), recorded.raw("imu", "test")[:2].tolist()
    files = sorted(recorded.path.rglob("*"))
    with served(recorded.path, "imu", "--max-body", "1") as (url, process):
        one = asyncio.run(asked(url, worst, 1, 0.0, process.pid))
        assert one.statuses == {413: 1}  # 350,000 events
        many = asyncio.run(asked(url, worst, 64, 0.0, process.pid))
        # Each grows to 20 MiB when it is parsed: 64 at a time would take 1.3 GiB. Four of them may
        # wait, 4 MiB.
        assert many.peak_bytes < one.peak_bytes + 100 * mebi
        assert set(many.statuses) <= {413, 503}
        assert many.statuses[413] >= 1
        assert many.statuses[503] >= 1
        gallery = sent(url, 10**10, b'{"z": [[1.0]], "gallery": [')
        assert gallery.startswith(b"HTTP/1.1 413")
        assert b"at most 1048576 bytes" in gallery
        for _ in range(8):  # half of a body, and gone
            sent(url, 500_000, b" " * 250_000, wait=False)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            assert client.post("/embed", json={"x": x}).is_success
    assert sorted(recorded.path.rglob("*")) == files


def sent(url: str, length: int, body: bytes, *, wait: bool = True) -> bytes:
    """Send the beginning of a request of `length` bytes; return what is answered, if waited for."""
    address = httpx.URL(url)
    head = f"POST /search/camera HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    with socket.create_connection((address.host, address.port or 0), 60) as caller:
        caller.sendall(head.encode() + body)
        answer = b""
        while wait and (part := caller.recv(4096)):
            answer += part
    return answer
