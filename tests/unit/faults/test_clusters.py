"""What the harness holds faults of clusters and disks against, and which runs have them."""

from __future__ import annotations

from array import array
from pathlib import Path
from random import Random

import pytest

from tests.faults.auditor import Findings, Kind
from tests.faults.disks import Disk
from tests.faults.history import History
from tests.faults.outages import Down
from tests.faults.plan import CATALOGUE, CLUSTERS, OF_CLUSTERS, SHORT, group, needs_cluster, needs_disks, plan
from tests.faults.run import LATE_S, judge


def told(*times_s: float) -> History:
    history = History(receipts_s={"room": array("d", times_s)})
    history.began -= 20.0
    return history


def test_a_receipt_while_no_quorum_of_brokers_is_there_is_a_finding() -> None:
    fault = Down("kafka", 2, 10.0)
    findings = Findings()
    judge(fault, told(3.0, 5.0 + LATE_S / 2), 5.0, findings)
    assert not findings
    judge(fault, told(3.0, 9.0), 5.0, findings)
    assert findings.counts == {Kind.UNSAFE: 1}


def test_nobody_waits_for_long_while_one_broker_or_any_of_cassandra_is_gone() -> None:
    often = [n / 2 for n in range(41)]
    for fault in (Down("kafka", 1, 10.0), Down("cassandra", 1, 10.0), Down("cassandra", 2, 10.0)):
        findings = Findings()
        judge(fault, told(*often), 2.0, findings)
        assert not findings
        judge(fault, told(*often[:5]), 2.0, findings)
        assert findings.counts == {Kind.UNANSWERED: 1}


def test_the_run_on_clusters_has_every_fault_of_theirs_and_the_usual_runs_have_none() -> None:
    assert set(OF_CLUSTERS) < set(CLUSTERS)
    assert needs_cluster(list(CLUSTERS))
    assert not needs_cluster([*SHORT, *CATALOGUE])
    assert not needs_disks([*SHORT, *CATALOGUE])
    assert needs_disks(group("disk"))


def test_every_fault_of_a_cluster_or_disk_can_be_made() -> None:
    names = [*group("cluster"), *group("disk")]
    assert len({fault.name for fault in plan(names, Random(1), forever=False)}) >= len(names)


def test_a_disk_that_cannot_be_mounted_is_an_error_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(_a_mount_that_says_no(tmp_path)))
    with pytest.raises(RuntimeError, match="must be superuser; the faults of full disks need root"):
        Disk(tmp_path / "disk", 1_000_000).mount()


def _a_mount_that_says_no(folder: Path) -> Path:
    program = folder / "bin" / "mount"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho must be superuser >&2\nexit 1\n")
    program.chmod(0o755)
    return program.parent
