"""Where servers keep their files, and as whom they run. Starts no server.

Sources: unshare(1), setpriv(1), flock(2).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ["base_folder", "copy_folder", "make_folder", "remove_base_folder", "runs", "unprivileged"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a RAM disk, in folders that tempfile names
ROOM = 2 * 1024**3
"""Bytes that must be free there; containers often have 64 MB of it."""


@cache
def base_folder() -> Path:
    """This process's folder for data and logs, in /dev/shm if that has room; removed by `remove_base_folder`.

    Folders that a killed test run left behind are removed first: theirs is the lock that nobody holds.
    """
    roomy = os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > ROOM
    parent = SHARED_MEMORY if roomy else Path(tempfile.gettempdir())
    for lock in parent.glob("polysession-tests-*/lock"):
        if _unowned(lock):
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="polysession-tests-", dir=parent))
    folder.chmod(0o711)  # servers that run as another account pass through
    fcntl.flock(os.open(folder / "lock.new", os.O_CREAT | os.O_WRONLY), fcntl.LOCK_EX)  # held until this process ends
    (folder / "lock.new").rename(folder / "lock")  # others see it locked or not at all
    return folder


def _unowned(lock: Path) -> bool:
    try:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_base_folder() -> None:
    """Give back the room that `base_folder` took; a second call does nothing."""
    if base_folder.cache_info().currsize:
        shutil.rmtree(base_folder(), ignore_errors=True)
        base_folder.cache_clear()


def make_folder(folder: Path) -> Path:
    """A new folder that an unprivileged server may write, with its parents."""
    folder.mkdir(parents=True)
    _hand_over(folder)
    return folder


def copy_folder(source: Path, target: Path) -> None:
    """Copy a data folder of a stopped server, links and modes included."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _hand_over(path: Path) -> None:
    """With account 65534 in use, files made by root must become its own."""
    if any(word.startswith("--reuid") for word in unprivileged()):
        os.chown(path, 65534, 65534, follow_symlinks=False)


@cache
def unprivileged() -> tuple[str, ...]:
    """The words before a command that make it run without root, as servers insist on; empty for an ordinary user.

    First choice is a user namespace, in which the process sees uid 1000 while its files stay root's. Where that is
    forbidden, account 65534 is used; then the programs must not lie below a home folder that it cannot enter.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    if runs(namespace):
        return namespace
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


def runs(prefix: Sequence[str]) -> bool:
    """Whether a command may be started by the words of `prefix` on this machine."""
    try:
        return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
