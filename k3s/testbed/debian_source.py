"""Finds and downloads a Debian source package with apt, without touching the machine's apt configuration.

Most machines list no source packages (``deb-src``). A private list is derived from what they do list,
with the same archives and the same signing keys, and kept in a directory of our own.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError

ETC = Path("/etc/apt")
ARCHIVE = re.compile(r"/debian(-security)?/?$")
"""How the addresses of Debian's archives and their mirrors end; others hold no source packages for us."""
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Source:
    package: str
    version: str
    archive: str
    size_bytes: int

    @property
    def megabytes(self) -> int:
        return round(self.size_bytes / 1_000_000)


def find_source(package: str, directory: Path) -> Source:
    """The newest source package that the machine's archives offer. ``directory`` keeps apt's lists.

    Raises:
        TestbedError: the machine lists no Debian archive, or it cannot be reached, or lacks the package.
    """
    for part in ("lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    one_line, stanzas = read_sources(ETC)
    if not one_line and not stanzas:
        raise TestbedError(f"{ETC} lists no Debian archive, so there is no source package of {package}")
    parts = directory / "sources.d"
    parts.mkdir(exist_ok=True)
    (parts / "archives.list").write_text(one_line)
    (parts / "archives.sources").write_text(stanzas)
    run(["apt-get", *_options(directory), "update", "-qq"], timeout_s=TIMEOUT_S)
    offered = run(["apt-get", *_options(directory), "source", "--print-uris", "-qq", package])
    return parse_uris(package, offered)


def download_source(source: Source, directory: Path, lists: Path) -> Path:
    """The upstream archive in ``directory``, checked against the signed list by apt."""
    path = directory / source.archive
    if not path.exists() or path.stat().st_size != source.size_bytes:
        run(
            [
                *("apt-get", *_options(lists), "source", "--download-only", "-qq"),
                f"{source.package}={source.version}",
            ],
            directory=directory,
            timeout_s=TIMEOUT_S,
        )
    return path


def parse_uris(package: str, text: str) -> Source:
    """From what ``apt-get source --print-uris`` prints: 'URI' file size hash."""
    version, archive, size = "", "", 0
    for line in text.splitlines():
        match = re.match(r"'[^']+' (\S+) (\d+) ", line)
        if match and match[1].endswith(".dsc"):
            version = match[1].removeprefix(f"{package}_").removesuffix(".dsc")
        elif match and ".orig.tar." in match[1] and not match[1].endswith(".asc"):
            archive, size = match[1], int(match[2])
    if not version or not archive:
        raise TestbedError(f"apt offers no source package '{package}': the testbed needs Debian 12's archive")
    return Source(package, version, archive, size)


def read_sources(etc: Path) -> tuple[str, str]:
    """The machine's Debian archives, turned into sources of source packages: lines and stanzas."""
    parts = etc / "sources.list.d"
    lines = [
        line
        for file in [etc / "sources.list", *sorted(parts.glob("*.list"))]
        if file.exists()
        for line in file.read_text().splitlines()
    ]
    stanzas = [
        stanza
        for file in sorted(parts.glob("*.sources"))
        for stanza in re.split(r"\n\s*\n", file.read_text())
    ]
    converted = {found for stanza in stanzas if (found := convert_stanza(stanza))}
    return "".join(sorted({found for line in lines if (found := convert_line(line))})), "\n".join(
        sorted(converted)
    )


def convert_line(line: str) -> str:
    """ "deb [options] ADDRESS suite component" as deb-src; empty if it is no Debian archive."""
    match = re.match(r"deb(?:-src)?\s+(\[[^\]]*\]\s+)?(\S+)\s+(.+)$", line.strip())
    if match is None or not ARCHIVE.search(match[2]):
        return ""
    return f"deb-src {match[1] or ''}{match[2]} {match[3]}\n"


def convert_stanza(stanza: str) -> str:
    """The same for the newer format of "Key: value" lines."""
    kept = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
    addresses = [word for line in kept if line.startswith("URIs:") for word in line.split()[1:]]
    if not any(ARCHIVE.search(address) for address in addresses):
        return ""
    return "".join(f"{'Types: deb-src' if line.startswith('Types:') else line}\n" for line in kept)


def _options(directory: Path) -> list[str]:
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": directory / "sources.d",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
