"""Several forked processes that meet over gloo, for tests of what they do together."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from CyDAS.utils.distributed import start_process, stop_process

#: Forked, so that nothing is imported again; with one thread each, since OpenMP's do not survive a fork.
CONTEXT = multiprocessing.get_context("fork")


def run_ranks(work: Callable, *arguments: Any, ranks: int = 2, join: bool = True, timeout: float = 30.0) -> list[Any]:
    """What ``work(process, *arguments)`` returns in each of the processes, or the error that it raised.

    ``join``: they have met; else ``work`` gets the rank and meets the others by itself. None for a process that died.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(ranks)]
    children = []
    for rank, (_, write) in enumerate(pipes):
        environment = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        child = CONTEXT.Process(target=_child, args=(work, rank, environment, join, timeout, write, arguments))
        child.start()
        write.close()
        children.append(child)
    results = []
    for read, _ in pipes:
        try:
            results.append(read.recv() if read.poll(60) else TimeoutError("no answer within a minute"))
        except EOFError:
            results.append(None)
    for child in children:
        child.join(10)
        if child.is_alive():
            child.kill()
    return results


def _child(work, rank, environment, join, timeout, write, arguments) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        result = work(start_process("cpu", timeout) if join else rank, *arguments)
        write.send((result, dist.is_initialized()) if not join else result)
    except Exception as error:
        write.send((error, dist.is_initialized()) if not join else error)
    finally:
        stop_process()
        write.close()
        os._exit(0)  # without the ends of the test program
