"""The line between the centre and those simulated stores whose line fails: a gate before the API, for each.

Stores whose line does not fail are reached without one.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from camera_sims.gate import Gate, GateMode
from k3s.testbed.kubeconfig import read_kubeconfig, write_kubeconfig
from storefleet.fleet_sim.failures import LINK_KINDS, Character


class Links:
    def __init__(self, kubeconfig: Path, characters: Mapping[str, Character], directory: Path) -> None:
        """``kubeconfig``: the centre's, for the whole cluster; those of single stores go to ``directory``."""
        access = read_kubeconfig(kubeconfig)
        url = urlsplit(access.server)
        upstream = (str(ip_address(url.hostname or "")), url.port or 443)
        self._kubeconfig = kubeconfig
        self._gates: dict[str, Gate] = {}
        self._files: dict[str, Path] = {}
        for store, character in characters.items():
            if character.kind in LINK_KINDS:
                gate = self._gates[store] = Gate("127.0.0.1", upstream)
                own = replace(access, server=f"https://127.0.0.1:{gate.port}")
                self._files[store] = write_kubeconfig(directory / store, store, own)

    def kubeconfig_of(self, store: str) -> Path:
        return self._files.get(store, self._kubeconfig)

    def is_cut(self, store: str) -> bool:
        gate = self._gates.get(store)
        return gate is not None and gate.mode is not GateMode.OPEN

    def cut(self, store: str, *, silent: bool) -> None:
        """``silent``: connections hang, as with a dead line; else they are refused."""
        self._gates[store].set_mode(GateMode.HANG if silent else GateMode.REFUSE)

    def heal(self, store: str) -> None:
        self._gates[store].set_mode(GateMode.OPEN)

    def close(self) -> None:
        for gate in self._gates.values():
            gate.close()
