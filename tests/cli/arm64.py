"""A 64-bit Arm Linux to run Python in: Debian's packages unpacked into a folder, under QEMU's user emulation.

Nothing is installed on the machine, and nothing is registered with its kernel. Runtimes choose their kernels
by /proc/cpuinfo, which the emulator does not make up: the folder holds one of the processor that is emulated.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
TOOLS = (QEMU, shutil.which("apt-get"), shutil.which("dpkg-deb"))
# Of a Raspberry Pi 4 and 5: (part, features); the second has dot products in int8.
PROCESSORS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
_WHEELS = ("numpy", "ai-edge-litert", "onnxruntime")
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")


def prepare(folder: Path) -> None:
    """Fetch and unpack Python and its packages for Arm.

    Raises:
        subprocess.CalledProcessError: they cannot be had.
    """
    for name in ("lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(
        'APT::Architecture "arm64";\nAPT::Architectures { "arm64"; };\nAPT::Sandbox::User "";\n'
        f'Dir::State::lists "{folder}/lists";\nDir::State::status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\nDebug::NoLocking "true";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    apt = ("apt-get", "-qq", "-y")
    wanted = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
    for words in (("update",), ("install", "--download-only", "--no-install-recommends", *wanted)):
        subprocess.run([*apt, *words], env=environment, check=True, capture_output=True, timeout=300)
    root = folder / "root"
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    version = python(folder).name.removeprefix("python")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--python-version", version, "--dest", str(folder / "wheels")]
    command += [word for name in _PLATFORMS for word in ("--platform", name)]
    subprocess.run([*command, *_WHEELS], check=True, capture_output=True, timeout=600)
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")


def python(folder: Path) -> Path:
    """The interpreter of Arm."""
    return next(path for path in (folder / "root/usr/bin").glob("python3.*") if path.name[8:].isdigit())


def emulated(folder: Path, processor: str) -> Path:
    """A program that is Python on this processor; the processes that Python starts are, too."""
    root = folder / processor
    (root / "proc").mkdir(parents=True)
    for part in (folder / "root").iterdir():
        (root / part.name).symlink_to(part)
    part_number, features = PROCESSORS[processor]
    rows = {
        "BogoMIPS": "108.00",
        "Features": features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": "0x0",
        "CPU part": part_number,
        "CPU revision": "3",
    }
    cores = range(os.cpu_count() or 1)
    text = "".join(f"{name}\t: {value}\n" for name, value in rows.items())
    (root / "proc" / "cpuinfo").write_text("".join(f"processor\t: {core}\n{text}\n" for core in cores))
    program = folder / f"python-{processor}"
    quoted = [shlex.quote(str(word)) for word in (QEMU, root, folder / "site", python(folder))]
    program.write_text(
        "#!/bin/sh\n"
        f"export PYTHONHOME={quoted[1]}/usr PYTHONPATH={quoted[2]} QEMU_CPU={processor}\n"
        f'exec {quoted[0]} -L {quoted[1]} -0 "$0" {quoted[3]} "$@"\n'
    )
    program.chmod(0o755)
    return program
