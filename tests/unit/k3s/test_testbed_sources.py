"""Debian's source packages, found from what the machine lists; versions, and the cache of what was built."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k3s.testbed.debian_source import Source, convert_line, convert_stanza, parse_uris, read_sources
from k3s.testbed.errors import TestbedError
from k3s.testbed.source_build import PROGRAMS, RECIPE, cache_directory, find_built, upstream_version

STANZA = """# a comment
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
URIS = """'http://deb.debian.org/k.dsc' kubernetes_1.20.5+really1.20.2-1.1.dsc 1973 SHA256:aa
'http://deb.debian.org/d/k.orig.tar.gz' kubernetes_1.20.5+really1.20.2.orig.tar.gz 34428927 SHA256:bb
'http://deb.debian.org/d/k.debian.tar.xz' kubernetes_1.20.5+really1.20.2-1.1.debian.tar.xz 21300 SHA256:cc
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "deb http://deb.debian.org/debian bookworm main",
            "deb-src http://deb.debian.org/debian bookworm main\n",
        ),
        (
            "deb [signed-by=/k.gpg] https://mirror.example/debian/ bookworm main contrib",
            "deb-src [signed-by=/k.gpg] https://mirror.example/debian/ bookworm main contrib\n",
        ),
        ("deb-src http://deb.debian.org/debian sid main", "deb-src http://deb.debian.org/debian sid main\n"),
        (
            "deb http://security.debian.org/debian-security bookworm-security main",
            "deb-src http://security.debian.org/debian-security bookworm-security main\n",
        ),
        ("deb https://packages.example.com/apt stable main", ""),
        ("# deb http://deb.debian.org/debian bookworm main", ""),
        ("", ""),
    ],
)
def test_line_of_a_debian_archive_becomes_one_of_its_sources(line: str, expected: str) -> None:
    assert convert_line(line) == expected


def test_stanza_keeps_suites_and_signing_key() -> None:
    converted = convert_stanza(STANZA)
    assert converted.splitlines()[0] == "Types: deb-src"
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in converted
    assert convert_stanza(STANZA.replace("deb.debian.org/debian", "deb.example.com/node_20.x")) == ""


@given(st.text(max_size=80))
def test_any_line_converts_to_nothing_or_to_one_source_line(line: str) -> None:
    converted = convert_line(line)
    assert converted == "" or converted.startswith("deb-src ")


def test_machines_lists_are_read_in_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://deb.debian.org/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "other.list").write_text("deb https://packages.example.com/apt stable main\n")
    (parts / "debian.sources").write_text(f"{STANZA}\n{STANZA}")
    lines, stanzas = read_sources(tmp_path)
    assert lines == "deb-src http://deb.debian.org/debian bookworm main\n"
    assert stanzas.count("Types: deb-src") == 1


def test_apts_offer_is_understood() -> None:
    assert parse_uris("kubernetes", URIS) == Source(
        "kubernetes", "1.20.5+really1.20.2-1.1", "kubernetes_1.20.5+really1.20.2.orig.tar.gz", 34428927
    )


def test_archive_without_the_package_is_named() -> None:
    with pytest.raises(TestbedError, match="offers no source package 'kubernetes'"):
        parse_uris("kubernetes", "E: Unable to find a source package for kubernetes\n")


@pytest.mark.parametrize(
    ("debian", "upstream"), [("1.20.5+really1.20.2-1.1+deb12u1", "1.20.2"), ("1.33.4+ds-1", "1.33.4")]
)
def test_upstream_version_is_what_it_really_is(debian: str, upstream: str) -> None:
    assert upstream_version(debian) == upstream


def test_unreadable_version_is_refused() -> None:
    with pytest.raises(TestbedError, match="cannot tell the Kubernetes version"):
        upstream_version("unstable")


def test_cache_is_outside_the_checkout_and_counts_only_when_complete(tmp_path: Path) -> None:
    cache = cache_directory({"XDG_CACHE_HOME": str(tmp_path)})
    assert cache_directory({"HOME": "/home/x"}) == Path("/home/x/.cache/storefleet/kubernetes")
    for version, age_s in ((f"1.20.2-{RECIPE}", 100), (f"1.33.4-{RECIPE}", 0), ("1.40.0", 0)):
        programs = cache / version / "bin"
        programs.mkdir(parents=True)
        for name in PROGRAMS[:-1]:
            (programs / name).touch(mode=0o755)
        assert find_built(cache) is None or not version.startswith("1.20.2")
        (programs / PROGRAMS[-1]).touch(mode=0o755)
        moment = programs.stat().st_mtime - age_s
        os.utime(programs, (moment, moment))
    assert find_built(cache) == cache / f"1.33.4-{RECIPE}/bin"
