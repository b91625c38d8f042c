"""Print what the role has to know of APT, a line each.

"lists" where it has lists of packages, "foreign policy" where somebody else says which services packages' scripts may
start and stop, and each process that holds a lock of APT's or dpkg's.
"""

import sys
from pathlib import Path

root = Path(sys.argv[1] if len(sys.argv) > 1 else "/")
if any(root.glob("var/lib/apt/lists/*_Packages*")):
    print("lists")

policy = root / "usr/sbin/policy-rc.d"
# Words of policy-rc.d.j2.
if policy.exists() and "Packages' scripts ask here" not in policy.read_text(encoding="utf-8", errors="replace"):
    print("foreign policy")

locks = [root / "var/lib" / name for name in ("dpkg/lock-frontend", "dpkg/lock", "apt/lists/lock")]
inodes = {str(lock.stat().st_ino) for lock in locks if lock.exists()}
holders = set()
for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
    # Number, kind, ADVISORY, READ or WRITE, process, device with inode; an arrow ahead of the kind where one waits.
    fields = line.split()
    if fields[1] == "POSIX" and fields[5].split(":")[-1] in inodes:
        holders.add(fields[4])
for process in sorted(holders):
    command = Path(f"/proc/{process}/cmdline")
    if command.exists():
        print(f"held by {command.read_text(encoding='utf-8').replace(chr(0), ' ')}(process {process})")
