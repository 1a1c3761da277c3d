"""Processes that the fault tests start."""

import subprocess
import sys
import textwrap
import time


def run_workers(folder, home, method, *, parent=""):
    """
    Four workers of multiprocessing, each logging 500 numbers of its own.

    *parent* is code that the process above them runs first.
    """
    script = folder / "main.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import logging, multiprocessing, sys
            import scoretrace

            def work(worker):
                scoretrace.configure(home={str(home)!r}, capture_print=False)
                for number in range(500):
                    logging.getLogger("score").info("%d", worker * 500 + number)

            if __name__ == "__main__":
                {parent}
                context = multiprocessing.get_context({method!r})
                workers = [context.Process(target=work, args=(worker,)) for worker in range(4)]
                for worker in workers: worker.start()
                for worker in workers: worker.join()
                sys.exit(max(worker.exitcode for worker in workers))
            """
        )
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)


def until(condition):
    """Ask for as long as something may take on the slowest machine; says whether it came about."""
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
