"""Builds Kubernetes from Debian's source package, once, into a cache outside the checkout.

Debian ships the server's source with every dependency, but no server binaries. Nothing else is
downloaded. One dependency, reflect2 1.0.1, iterates over maps as Go did before 1.18: built with Debian's Go
it overwrites memory, and the apiserver dies at the first server-side apply. Debian also packages 1.0.2,
which is put in its place. Modules mode refuses the vendored tree, so it is built the old way, in a GOPATH.
Each step leaves its result in place only when it is complete, so a build that was interrupted goes on where
it was.

Measured on 2 cores of an AMD EPYC that did nothing else: about 5 minutes in all.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from k3s.testbed.commands import run
from k3s.testbed.debian_source import Source, download_source, find_source
from k3s.testbed.errors import TestbedError
from k3s.testbed.packages import BUILD, GO, REFLECT2
from k3s.testbed.progress import Progress
from k3s.testbed.requirements import require

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PACKAGE = "kubernetes"
VERSION_PACKAGES = tuple(
    f"k8s.io/kubernetes/vendor/k8s.io/{name}" for name in ("component-base/version", "client-go/pkg/version")
)
"""The first is what programs say of themselves, the second what the apiserver says of the server."""
RECIPE = 2
"""Of this module; programs that an older one built are not used. 2: reflect2 is replaced."""
NEEDED_MB = 4000
"""Sources, generated files and compiler cache together; 360 MB of programs stay."""
STEP_TIMEOUT_S = 3600
POLITE = ("nice", "-n", "10")


def build_kubernetes(progress: Progress, environment: Mapping[str, str]) -> Path:
    """The directory with the programs. Builds them if the cache does not hold them.

    Raises:
        TestbedError: packages, disk space or the network are missing, or a step fails (it names its log).
    """
    cache = cache_directory(environment)
    done = find_built(cache)
    if done is not None:
        return done
    require(BUILD, "building Kubernetes")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock", progress):
        done = find_built(cache)  # by whoever held the lock
        if done is not None:
            return done
        free_mb = shutil.disk_usage(cache).free // 1_000_000
        if free_mb < NEEDED_MB:
            raise TestbedError(
                f"building Kubernetes needs {NEEDED_MB} MB in {cache} but {free_mb} MB are free: "
                "set XDG_CACHE_HOME to a place with more"
            )
        progress.say(f"Building Kubernetes from Debian's source into {cache}: once, 5 to 15 minutes.")
        with progress.step("look the source package up"):
            source = find_source(PACKAGE, cache / "apt")
        return _build(source, cache / f"{source.version}-{RECIPE}", progress)


def cache_directory(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/root")) / ".cache"
    return Path(base) / "storefleet" / "kubernetes"


def find_built(cache: Path) -> Path | None:
    """A complete set of programs in the cache, the newest if there are several."""
    complete = [
        path
        for path in cache.glob(f"*-{RECIPE}/bin")
        if all(os.access(path / name, os.X_OK) for name in PROGRAMS)
    ]
    return max(complete, key=lambda path: path.stat().st_mtime, default=None)


def upstream_version(debian: str) -> str:
    """ "1.20.2" of "1.20.5+really1.20.2-1.1+deb12u1"."""
    found: list[str] = re.findall(r"(?:^|really)(\d+\.\d+\.\d+)", debian)
    if not found:
        raise TestbedError(f"cannot tell the Kubernetes version from Debian's '{debian}'")
    return found[-1]


def _build(source: Source, directory: Path, progress: Progress) -> Path:
    work = directory / "build"
    work.mkdir(parents=True, exist_ok=True)
    log = directory / "build.log"
    tree = work / "go/src/k8s.io/kubernetes"
    with progress.step(f"download {PACKAGE} {source.version} ({source.megabytes} MB)"):
        archive = download_source(source, work, directory.parent / "apt")
    with progress.step("unpack it"):
        _unpack(archive, tree)
    environment = _go_environment(work)
    with progress.step("generate files", slow=True):
        _generate(tree, environment, log)
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
        if not (programs / name).exists():
            with progress.step(f"build {name}", slow=True):
                _compile(name, tree, programs / name, environment, upstream_version(source.version), log)
    with progress.step("remove the source tree"):
        run(["chmod", "-R", "u+w", work])
        shutil.rmtree(work)
    return programs


def _unpack(archive: Path, tree: Path) -> None:
    if tree.exists():
        return
    half = tree.with_name("kubernetes.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    run(["tar", "-xf", archive, "--strip-components=1", "-C", half], timeout_s=600)
    library = half / "vendor/github.com/modern-go/reflect2"
    shutil.rmtree(library)
    shutil.copytree(REFLECT2, library)
    half.rename(tree)


def _generate(tree: Path, environment: Mapping[str, str], log: Path) -> None:
    """Without these kube-apiserver lacks, among others, its OpenAPI definitions."""
    marker = tree / ".generated"
    if not marker.exists():
        run(
            [*POLITE, "make", "generated_files"],
            directory=tree,
            environment=environment,
            log=log,
            timeout_s=STEP_TIMEOUT_S,
        )
        marker.touch()


def _compile(
    name: str, tree: Path, result: Path, environment: Mapping[str, str], version: str, log: Path
) -> None:
    major, minor, _ = version.split(".")
    variables = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(
        f"-X {package}.{key}={value}" for package in VERSION_PACKAGES for key, value in variables.items()
    )
    half = result.with_suffix(".half")
    run(
        [*POLITE, "go", "build", "-ldflags", f"-s -w {flags}", "-o", half, f"./cmd/{name}"],
        directory=tree,
        environment=environment,
        log=log,
        timeout_s=STEP_TIMEOUT_S,
    )
    half.rename(result)


def _go_environment(work: Path) -> dict[str, str]:
    return {
        "GOPATH": str(work / "go"),
        "GOCACHE": str(work / "cache"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "PATH": f"{Path(GO).parent}:{os.environ.get('PATH', os.defpath)}",
    }


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another build is running: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
