"""Runs a command on a terminal, and types an answer for each prompt: terminal.py [PROMPT ANSWER]... -- COMMAND...

Prints what the terminal shows, and ends with the exit status of the command.
"""

import os
import pty
import sys
import termios

separator = sys.argv.index("--")
dialog, command = sys.argv[1:separator], sys.argv[separator + 1 :]
steps = list(zip(dialog[::2], dialog[1::2]))

process, terminal = pty.fork()
if process == 0:
    os.execv(command[0], command)
shown, read = "", 0
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:  # The command has closed the terminal.
        break
    if not part:
        break
    shown += part.decode()
    while steps and steps[0][0] in shown[read:]:
        prompt, answer = steps.pop(0)
        read = shown.index(prompt, read) + len(prompt)
        # A person needs longer to type than the command needs to hide what is typed.
        while prompt.startswith("Password") and termios.tcgetattr(terminal)[3] & termios.ECHO:
            os.sched_yield()
        os.write(terminal, answer.encode() + b"\n")
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
