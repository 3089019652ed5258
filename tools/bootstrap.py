"""Make .venv and install the lock into it; do nothing when that is already done.

Runs under whatever `python3` the user has, so: standard library only, and syntax that an old Python can read far enough to be
told that it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed")
LOG = os.path.join(VENV, "install.log")
VERSIONS = ((3, 11), (3, 12), (3, 13))

# What pip prints when it fails, and what a person can do about it.
REMEDIES = (
    (
        "No space left on device",
        "the disk is full; about 4 GB are needed. Free some space and run the same command again.",
    ),
    (
        "Failed to establish a new connection",
        "no network: the package index cannot be reached. Connect, or point PIP_INDEX_URL or PIP_FIND_LINKS at a mirror, and run the same command again.",
    ),
    (
        "Temporary failure in name resolution",
        "no network: the package index cannot be reached. Connect, or point PIP_INDEX_URL or PIP_FIND_LINKS at a mirror, and run the same command again.",
    ),
    (
        "Name or service not known",
        "no network: the package index cannot be reached. Connect, or point PIP_INDEX_URL or PIP_FIND_LINKS at a mirror, and run the same command again.",
    ),
    (
        "ConnectTimeoutError",
        "the package index does not answer. Check the network or the proxy and run the same command again.",
    ),
    (
        "ProxyError",
        "the proxy refuses the connection to the package index. Check HTTPS_PROXY and run the same command again.",
    ),
    (
        "Connection refused",
        "the package index refuses the connection. Check the network or the proxy and run the same command again.",
    ),
    (
        "error: command 'gcc' failed",
        "a package has no ready-made build for this machine and its compilation failed; use Python 3.11 to 3.13 on Linux, macOS or Windows, 64 bit.",
    ),
    (
        "error: Microsoft Visual C++",
        "a package has no ready-made build for this machine and there is no compiler; use a 64-bit Python 3.11 to 3.13.",
    ),
    (
        "unable to execute",
        "a package has no ready-made build for this machine and there is no compiler; install one (Debian: apt-get install build-essential) or use a 64-bit Python 3.11 to 3.13.",
    ),
    (
        "No matching distribution found",
        "the package index has no build of one package for this Python and this machine.",
    ),
)


def stop(sentence):
    sys.exit("physgen: " + sentence)


def digest():
    h = hashlib.sha256(os.environ.get("PIP_FLAGS", "").encode())
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as f:
            h.update(f.read())
    h.update(("%d.%d" % sys.version_info[:2]).encode())
    return h.hexdigest()


def installed():
    if not os.path.exists(STAMP) or not os.path.exists(venv_python()):
        return False
    with open(STAMP) as f:
        return f.read().strip() == digest()


def right_python():
    """Continue under Python 3.11 to 3.13, looking for one on PATH if this is another."""
    if sys.version_info[:2] in VERSIONS:
        return
    for minor in (13, 12, 11):
        other = shutil.which("python3.%d" % minor) if hasattr(shutil, "which") else None
        works = (
            other
            and subprocess.call(
                [other, "-c", "import venv"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        )
        if works:
            os.execv(other, [other, *sys.argv])
    stop(
        "this is Python %d.%d, and the project needs 3.11, 3.12 or 3.13. Install one, or name it: make book PYTHON=python3.12"
        % sys.version_info[:2]
    )


def venv_python():
    return os.path.join(VENV, "bin", "python")


def make_venv():
    if (
        os.path.exists(venv_python())
        and subprocess.call(
            [venv_python(), "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        == 0
    ):
        version = (
            subprocess.check_output([venv_python(), "-c", "import sys; print(sys.version_info[:2])"])
            .decode()
            .strip()
        )
        if version == str(tuple(sys.version_info[:2])):
            return
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if made.returncode == 0:
        return
    text = made.stdout.decode(errors="replace")
    if "ensurepip" in text:
        stop(
            "this Python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python%d.%d-venv"
            % sys.version_info[:2]
        )
    last = text.strip().splitlines()[-1] if text.strip() else "no message"
    stop(
        "cannot make a virtual environment in .venv (%s). Is the folder writable and the disk not full?"
        % last
    )


def pip(*words):
    """Run pip, keep its words in the log, and turn a failure into one sentence."""
    with open(LOG, "ab") as log:
        code = subprocess.call(
            [venv_python(), "-m", "pip", "install", *words], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
    if code == 0:
        return
    with open(LOG, errors="replace") as f:
        text = f.read()
    for sign, remedy in REMEDIES:
        if sign in text:
            stop(remedy)
    errors = [line for line in text.splitlines() if line.startswith("ERROR")] or ["no message"]
    stop("the installation failed (%s). The whole story is in .venv/install.log" % errors[-1])


def main():
    right_python()
    if installed():
        return
    with open(os.path.join(ROOT, "requirements.lock")) as f:
        count = sum(1 for line in f if "==" in line)
    print("Installing %d packages into .venv (once; two to five minutes)" % count, flush=True)
    make_venv()
    open(LOG, "wb").close()
    pip(*os.environ.get("PIP_FLAGS", "").split(), "-r", "requirements.lock")
    pip("--no-deps", "-e", ".")
    with open(STAMP, "w") as f:
        f.write(digest())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on where it stopped.")
    except OSError as error:
        stop("%s: %s" % (error.strerror, error.filename))
