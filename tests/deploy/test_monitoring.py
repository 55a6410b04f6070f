"""/metrics and /health, read with Prometheus' own parser and compared with what was done."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sheafalign_fl.deploy.measures import NodeCounts, RelayCounts
from sheafalign_fl.deploy.monitoring import Health, Watched, monitored, monitoring_address
from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.meter import TrafficMeter
from sheafalign_fl.flower.node_keys import LinkState
from sheafalign_fl.protocol.rows import AbsenceRow
from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.runs.folder import MetricsLog, RunFolder
from sheafalign_fl.runs.ledger import COLUMNS
from tests.conftest import toy_settings
from tests.system.command import free_port

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def ask(address: Address, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(watched: Watched) -> tuple[Samples, tuple[int, dict[str, Any]]]:
    """Return every sample of /metrics, and status and content of /health."""
    address = Address("127.0.0.1", free_port())
    with monitored(address, watched):
        status, text = ask(address, "/metrics")
        code, health = ask(address, "/health")
        assert ask(address, "/v1/fleet/pull-messages")[0] == 404
    assert status == 200
    found = {
        (
            sample.name.removeprefix("sheafalign_"),
            tuple(sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return found, (code, json.loads(health))


def test_a_node_tells_what_it_has_done(tmp_path: Path) -> None:
    counts, meter = NodeCounts(), TrafficMeter()
    before, health = scraped(counts.watched(meter))
    assert before[("connected", ())] == 0
    assert ("last_exchange_age_seconds", ()) not in before
    assert health == (503, {"well": False, "connected": False})
    counts.connected = True
    for kind, failed in [
        ("query.agree", False),
        ("train.exchange", False),
        ("train.exchange", True),
    ]:
        counts.served(kind, failed=failed)
    meter._counts.update({"messages up": 70, "polling down": 5, "requests": 3, "records up": 9})
    after, health = scraped(counts.watched(meter))
    assert after[("connected", ())] == 1
    assert after[("exchanges_total", ())] == 2
    assert after[("failures_total", ())] == 1
    assert after[("messages_total", (("kind", "query.agree"),))] == 1
    assert 0 <= after[("last_exchange_age_seconds", ())] < 60
    moved = {key[1]: value for key, value in after.items() if key[0] == "traffic_bytes_total"}
    assert moved == {
        (("direction", "up"), ("purpose", "messages")): 70,
        (("direction", "down"), ("purpose", "polling")): 5,
    }
    assert health == (200, {"well": True, "connected": True})


class KnownNodes:
    """As much of Flower's state as is asked for."""

    def get_node_info(self, *, statuses: Iterable[str]) -> list[SimpleNamespace]:
        assert list(statuses) == ["online"]
        return [SimpleNamespace(node_id=7)]


def write_run(folder: RunFolder, exchanges: int) -> None:
    folder.create(toy_settings())
    folder.set_status("running")
    log = MetricsLog(folder.metrics)
    for number in range(exchanges):
        log._file.write(json.dumps({"kind": "exchange", "exchange": number}) + "\n")
    log.write(AbsenceRow(exchange=1, client="m0", event="late", reason="slow"))
    verdict = {"event": "refused", "check": "norm", "value": 9.0, "bound": 1.0, "since": 1}
    for _ in range(3):
        log.write(WatchRow(sender="m0", exchange=1, receiver="m1", **verdict))
    log.close()
    rows = [("setup", 10), ("train", 200), ("train", 300), ("evaluate", 4000)]
    lines = [",".join(COLUMNS)]
    lines += [f"1,m0,m1,{purpose},float32,1,1,1,1,{size}" for purpose, size in rows]
    folder.ledger.write_text("\n".join(lines) + "\n", encoding="ascii")


def test_a_relay_tells_nodes_and_the_sums_of_its_runs_folders(tmp_path: Path) -> None:
    registered = tmp_path / "registered.json"
    registered.write_text(json.dumps({"m0": 7, "m1": 8}), encoding="ascii")
    write_run(RunFolder(tmp_path / "runs" / "street"), 5)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.yaml").write_text("{", encoding="ascii")
    counts = RelayCounts(cast(LinkState, KnownNodes()), tmp_path / "runs", registered)
    for _ in range(2):  # asking changes nothing
        found, health = scraped(counts.watched())
    run = ("run", "street")
    assert found[("connected", (("client", "m0"),))] == 1
    assert found[("connected", (("client", "m1"),))] == 0
    assert found[("run_running", (run,))] == 1
    assert found[("exchanges_total", (run,))] == 5
    assert found[("relay_bytes_total", (("purpose", "train"), run))] == 500
    assert found[("relay_bytes_total", (("purpose", "evaluate"), run))] == 4000
    assert found[("absences_total", (("client", "m0"), ("event", "late"), run))] == 1
    edge = (("event", "refused"), ("receiver", "m1"), run, ("sender", "m0"))
    assert found[("edge_events_total", edge)] == 3
    assert 0 <= found[("last_exchange_age_seconds", (run,))] < 60
    assert health == (200, {"well": True, "connected": ["m0"]})


@pytest.mark.parametrize("given", ["0.0.0.0:9464", "10.0.0.1:9464", "relay.example:1", "[::]:1"])
def test_monitoring_is_for_this_machine_alone(given: str) -> None:
    with pytest.raises(UserError, match=r"give 127\.0\.0\.1:PORT"):
        monitoring_address(given)


def test_a_port_that_is_taken_is_said() -> None:
    watched = Watched(list, lambda: Health(True, {}))
    address = Address("127.0.0.1", free_port())
    with (
        monitored(address, watched),
        pytest.raises(UserError, match=f":{address.port}"),
        monitored(address, watched),
    ):
        pass
