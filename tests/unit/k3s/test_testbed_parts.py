"""Kubeconfigs, images, processes, certificates and the command line's words, each with the real thing."""

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from k3s.testbed.binaries import Kubernetes, from_directory
from k3s.testbed.cli import parse_nodes, parse_stores
from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.kubeconfig import Access, read_kubeconfig, write_kubeconfig
from k3s.testbed.ledger import Ledger
from k3s.testbed.packages import BUILD, IMAGES, RUN, Package
from k3s.testbed.pause_image import oci_archive
from k3s.testbed.processes import Daemon, alive, descendants, identify, kill, start
from k3s.testbed.requirements import require
from k3s.testbed.testbed import Options, Testbed


def test_kubeconfig_is_read_as_it_was_written_and_kept_from_others(tmp_path: Path) -> None:
    access = Access("https://10.96.0.2:443", b"ca", token="t0p", certificate=b"crt", key=b"key")
    path = write_kubeconfig(tmp_path / "kubeconfig", "store", access)
    assert read_kubeconfig(path) == access
    assert path.stat().st_mode & 0o777 == 0o600
    assert "t0p" not in repr(access)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no kubeconfig"),
        ("current-context: x\ncontexts: []\n", "is no kubeconfig"),
        ("a: [", "is no kubeconfig"),
    ],
)
def test_damaged_kubeconfig_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(TestbedError, match=message):
        read_kubeconfig(path)
    with pytest.raises(TestbedError, match="cannot read kubeconfig"):
        read_kubeconfig(tmp_path / "none")


def test_kubeconfig_with_a_login_program_is_refused(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "store", Access("https://x", b"ca", token="t"))
    path.write_text(path.read_text().replace("token: t", "exec: {command: gke}"))
    with pytest.raises(TestbedError, match="not by a plug-in"):
        read_kubeconfig(path)


def test_image_archive_holds_what_its_index_promises() -> None:
    archive = oci_archive("example.org/x:1", {"x": b"program"}, ["/x"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    index = json.loads(content["index.json"])
    (described,) = index["manifests"]
    assert described["annotations"] == {"io.containerd.image.name": "example.org/x:1"}
    manifest = json.loads(content[f"blobs/sha256/{described['digest'][7:]}"])
    for entry in (described, manifest["config"], *manifest["layers"]):
        assert len(content[f"blobs/sha256/{entry['digest'][7:]}"]) == entry["size"]


def test_process_is_known_by_its_start_and_not_by_its_number_alone(tmp_path: Path) -> None:
    pid = start(["sleep", "60"], tmp_path / "log")
    daemon = identify(pid)
    assert alive(daemon)
    assert not alive(Daemon(pid, daemon.started + 1, daemon.boot))
    assert not alive(Daemon(pid, daemon.started, "another boot"))
    assert not alive(None)
    kill(daemon)
    assert not alive(daemon)
    kill(daemon)


def test_descendants_are_found_all_the_way_down() -> None:
    shell = subprocess.Popen(["bash", "-c", "bash -c 'sleep 60; true'; true"], start_new_session=True)
    try:
        end = time.monotonic() + 10
        while len(descendants(shell.pid)) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(descendants(shell.pid)) == 3
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="cannot start 'no-such-program'"):
        start(["no-such-program"], tmp_path / "log")
    with pytest.raises(TestbedError, match="cannot run 'no-such-program'"):
        run(["no-such-program"])
    with pytest.raises(TestbedError, match=r"failed \(3\): because"):
        run(["bash", "-c", "echo because >&2; exit 3"])


def test_ledger_remembers_across_commands(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.kubernetes = Kubernetes("test", (1, 30), apiserver=Path("/x/kube-apiserver"))
    ledger.stores = {"berlin-01": 2}
    ledger.save()
    ledger.record("berlin-01/etcd", os.getpid())
    again = Ledger.load(tmp_path)
    assert again == ledger
    assert again.runs("berlin-01/etcd")
    assert not again.runs("berlin-01/apiserver")


def test_damaged_ledger_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "testbed.json").write_text("{")
    with pytest.raises(TestbedError, match="run 'storefleet testbed down'"):
        Ledger.load(tmp_path)


def test_kubernetes_is_read_from_a_directory_with_what_it_lacks(tmp_path: Path) -> None:
    for name in ("kube-apiserver", "etcd"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho Kubernetes v1.30.2\n")
        program.chmod(0o755)
    found = from_directory(tmp_path, "here")
    assert found.version == (1, 30)
    assert not found.has_nodes
    assert len(found.degraded) == 2
    (tmp_path / "kube-apiserver").unlink()
    with pytest.raises(TestbedError, match="here holds no kube-apiserver"):
        from_directory(tmp_path, "here")


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    absent = (Package("a-package", "/no/such/file", ""), Package("b-package", "no-such-program", ""))
    with pytest.raises(TestbedError, match="apt-get install --no-install-recommends a-package b-package"):
        require(absent, "testing")
    require((Package("bash", "bash", ""),), "testing")
    names = [package.name for package in (*RUN, *BUILD, *IMAGES)]
    assert len(set(names)) == len(names)


def test_stores_without_root_are_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TestbedError, match=r"need root.*--kubeconfig"):
        Testbed(Options(name="rootless", directory=tmp_path / "testbed")).up()


def test_stores_are_given_by_number_or_by_name() -> None:
    assert parse_stores("2") == ("store-1", "store-2")
    assert parse_stores("berlin-01, paris-02") == ("berlin-01", "paris-02")
    assert parse_nodes("1,1,2") == (1, 1, 2)
    with pytest.raises(TestbedError, match="--nodes takes numbers"):
        parse_nodes("many")
