"""What hangs on the leash ends with whoever holds it, and not before."""

import subprocess
import sys

import psutil

HOLDER = """
import subprocess, sys
from ranker.backends.leash import Leash
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
leash = Leash([child.pid])
if sys.argv[1] == "release":
    leash.release()
print(child.pid, flush=True)
sys.stdin.read()
"""


def start(how: str) -> tuple["subprocess.Popen[str]", psutil.Process]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder, psutil.Process(int(holder.stdout.readline()))


def end(holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.communicate()


def test_it_ends_with_a_killed_holder() -> None:
    holder, child = start("hold")
    assert child.is_running()
    end(holder)
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()


def test_it_stays_once_it_is_released() -> None:
    holder, child = start("release")
    end(holder)
    assert child.is_running()
    child.kill()
