"""What a process takes on that was forked before the process that it acts for had it."""

import json
import os
import signal
import subprocess
import sys
import textwrap

from nvdimmfs.sandbox.surroundings import Surroundings

PROGRAM = """
    import json, os, signal, sys, time
    from nvdimmfs.sandbox.surroundings import Surroundings

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    output, directory, environment, umask, ignored = json.loads(sys.argv[1])
    files = [os.open(os.devnull, os.O_RDONLY), os.dup(output), os.open(os.devnull, os.O_WRONLY)]
    taken = Surroundings(environment, umask, frozenset(ignored))
    taken.take_on(files, os.open(directory, os.O_PATH))
    assert Surroundings.of_this_process() == taken, Surroundings.of_this_process()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    os.write(1, json.dumps([os.getcwd(), time.tzname[0], sorted(os.environ)]).encode())
"""


def test_a_process_has_what_it_takes_on(tmp_path):
    ignored = sorted({*Surroundings.of_this_process().ignored, signal.SIGUSR1} - {signal.SIGHUP})
    environment = {"TZ": "XYZ-1", "NAME": "\udcff"}
    reader, writer = os.pipe()
    order = json.dumps([writer, str(tmp_path), environment, 0o27, ignored])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), order], pass_fds=[writer], check=False, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.stderr == b""
    with os.fdopen(reader, "rb") as stream:
        assert json.loads(stream.read()) == [str(tmp_path), "XYZ", ["NAME", "TZ"]]
