"""A disk that can be full: a folder of limited size, and the file that takes what is left of it.

Only root may mount; elsewhere the harness fails rather than leaving these faults out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

BALLAST = "ballast"
MIB = 2**20


class Disk:
    """One folder on a file system of its own, in memory."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self.size_bytes = size_bytes

    def mount(self) -> None:
        """Have the folder, empty.

        Raises:
            RuntimeError: this user, or this container, may not mount.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # One that an earlier run left when it was killed.
        self.unmount()
        _run("mount", "-t", "tmpfs", "-o", f"size={self.size_bytes},mode=0700", "tmpfs", str(self.folder))

    def unmount(self) -> None:
        """Give the folder back; all that was in it is gone. Harmless when it is not mounted."""
        if self.folder.is_mount():
            # Lazily: a process that is being killed may still hold a file for a moment.
            _run("umount", "--lazy", str(self.folder))

    def free_bytes(self) -> int:
        """What is left."""
        stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0) -> int:
        """Take all but `leave_bytes`; returns how many bytes that were."""
        taken = 0
        with (self.folder / BALLAST).open("ab") as file:
            while (size := self.free_bytes() - leave_bytes) > 0:
                try:
                    os.posix_fallocate(file.fileno(), taken, size)
                except OSError:
                    continue  # somebody else took some of it meanwhile: less is left now
                taken += size
        return taken

    def clear(self) -> None:
        """Make room again. Harmless when the disk was never filled."""
        (self.folder / BALLAST).unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: {done.stderr.strip()}; the faults of full disks need root and the right to mount"
        )
