"""Sits at a terminal of its own and types into a program, as a person does.

typist.py SCRIPT COMMAND...: SCRIPT has a line for each answer: what is waited for on the screen, a tab, what is typed then.
What the screen shows is passed on. The exit code is the command's; 1 if it does not show what is waited for within 20 seconds.
"""

import os
import pty
import random
import select
import sys
import time
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

PATIENCE = 20


def show(terminal: int, until: bytes | None) -> bool:
    """Passes on what the program shows until that is among it, or it ends; whether it came to that."""
    shown, deadline = b"", time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            # How a terminal says that nobody is on its other side.
            piece = b""
        if not piece:
            return until is None
        os.write(1, piece)
        shown += piece
        if until is not None and until in shown:
            return True
    return False


def main(script: str, command: list[str]) -> int:
    # The same hand each time.
    hand = random.Random(1)
    with open(script, encoding="utf-8") as file:
        answers = [line.rstrip("\n").split("\t") for line in file]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    ioctl(terminal, TIOCSWINSZ, pack("HHHH", 24, 100, 0, 0))
    came = True
    for awaited, typed in answers:
        came = came and show(terminal, awaited.encode())
        for character in typed + "\r" if came else "":
            time.sleep(hand.uniform(0.01, 0.05))
            os.write(terminal, character.encode())
    came = came and show(terminal, None)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if came else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
