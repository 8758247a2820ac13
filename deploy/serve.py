"""The command that starts the API on Ray Serve: one replica a device, each with its own copy of the models.

    python -m deploy.serve                                    # all GPUs of this machine, or its CPU
    python -m deploy.serve --address auto --host 0.0.0.0      # all GPUs of the Ray cluster that this machine is in
    curl -F image=@examples/street.png -F mask=@examples/street_mask.png http://127.0.0.1:8000/inpaint -o restored.png

The routes are in deploy/api.py; docs/serving.md says the rest. Ray Serve does what is shared out, waits, and is started
anew. SIGTERM and Ctrl-C end it.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.batch.on_ray import TOKENS, runs_here
from fbinpaint.errors import InputError, one_line, printable
from fbinpaint.hub.model_names import CHECKPOINTS, bundled_models, by_name, label_space_of_model

HOST, PORT = "127.0.0.1", 8000
NO_CLUSTER = "no Ray cluster answers there; name HOST:PORT as `ray start --head` told it, or auto"
NAME = "fbinpaint"  # of the application; Ray's metrics have it as `application`


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.serve", description="The API on Ray Serve.", formatter_class=HelpWithDefaults,
        epilog="example: python -m deploy.serve --port 8001",
    )  # fmt: skip
    parser.add_argument("--model", nargs="+", metavar="DIR|HUB_ID", help="default: those under checkpoints/")
    parser.add_argument("--replicas", type=positive, metavar="N", help="default: one a GPU; without a GPU, one")
    parser.add_argument("--host", default=HOST, help="0.0.0.0 = reachable from other machines")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="of Prometheus metrics (default: a free one)")
    parser.add_argument(
        "--address", metavar="HOST:PORT|auto", help="of a Ray cluster (default: none, this machine alone)"
    )  # fmt: skip
    args = parser.parse_args()
    try:
        # Replicas run in folders of their own, so a relative path would lead nowhere there.
        given = by_name(args.model or ())
        named = {name: os.path.abspath(model) if os.path.isdir(model) else model for name, model in given.items()}
        models = named or bundled_models()
        if not models:
            raise InputError(f"no model under {CHECKPOINTS}; name one with --model")
        for model in models.values():
            label_space_of_model(model)  # a wrong name is told now, not by each replica
        if args.address and args.metrics_port is not None:
            raise InputError("--metrics-port: a cluster that is named by --address has its own; leave one of them out")
        if not args.address:  # a cluster's Serve may have the port, and keeps it
            check_port(args.host, args.port)
        elif ":" in args.address:
            check_cluster(args.address)
        start(args, models)
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    return 0


def start(args: argparse.Namespace, models: dict[str, str]) -> None:
    """Serves until a signal ends it. Raises InputError where the machines are too few or Ray cannot be had."""
    end_at_signals(lambda *_: sys.exit(0))  # until it serves; Ray's processes end with ours
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise InputError(f'Ray Serve is not installed ({error}); pip install "fbinpaint[demo,ray]"') from None
    from .api import Api

    if args.address == "auto" and not runs_here():
        raise InputError(f"--address auto: {NO_CLUSTER}")
    here = {"include_dashboard": False, "_metrics_export_port": args.metrics_port}
    try:
        ray.init(address=args.address or "local", **({} if args.address else here))
    except (OSError, ValueError, RuntimeError) as error:
        wrong = f"--address {args.address}: no connection" if args.address else "Ray did not start here"
        advice = f"; {TOKENS}" if args.address else ""
        raise InputError(f"{wrong} ({one_line(error)}){advice}") from None
    end_at_signals(lambda *_: sys.exit(0))  # Ray has put handlers of its own in their place
    try:
        machines = [node for node in ray.nodes() if node["Alive"]]
        replicas, resources = share([machine["Resources"] for machine in machines], args.replicas)
        serve.start(http_options={"host": args.host, "port": args.port})
        deployment: Any = Api  # as `serve.deployment` leaves it
        api = deployment.options(num_replicas=replicas, ray_actor_options=resources)
        serve.run(api.bind(models), name=NAME, route_prefix="/")
        ended = threading.Event()
        end_at_signals(lambda *_: ended.set())
        for machine in machines:
            print(f"metrics: http://{machine['NodeManagerAddress']}:{machine['MetricsExportPort']}/metrics")
        print(f"{replicas} replicas answer at http://{args.host}:{args.port}", flush=True)
        ended.wait()
        if args.address:  # the cluster goes on, and so may applications of others
            serve.delete(NAME)
    except RuntimeError as error:
        raise InputError(f"Ray Serve did not start the API ({one_line(error)})") from None
    finally:
        ray.shutdown()


def end_at_signals(handler: Callable) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def share(machines: list[dict[str, float]], wanted: int | None) -> tuple[int, dict[str, int]]:
    """How many replicas, and what each takes: a GPU; or, where there is none, as many CPUs as all can have.

    machines: Ray's resources of each; wanted: replicas, None = one a GPU, or one a machine
    Raises InputError where a replica would wait for what is not there.
    """
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    room = list(map(min, gpus, cpus)) if any(gpus) else cpus
    replicas = wanted or (sum(gpus) if any(gpus) else len(machines))
    if replicas > sum(room):
        each = "a GPU and a CPU" if any(gpus) else "a CPU"
        there = f"{sum(gpus)} GPUs and {sum(cpus)} CPUs are there, room for {sum(room)}"
        raise InputError(f"{replicas} replicas want {each} each; {there}: ask for fewer --replicas, or add machines")
    if any(gpus):
        return replicas, {"num_gpus": 1, "num_cpus": 1}
    # Ray gives a replica as many threads as it takes CPUs, which must be of one machine.
    return replicas, {"num_cpus": max(n for n in range(1, max(cpus) + 1) if sum(x // n for x in cpus) >= replicas)}


def check_cluster(address: str) -> None:
    """Raises InputError unless something listens there: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except (OSError, ValueError, OverflowError):
        raise InputError(f"--address {address}: {NO_CLUSTER}") from None


def check_port(host: str, port: int) -> None:
    """Raises InputError unless the address is a free one of this machine: Ray would try again and again."""
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError):
        raise InputError(f"{host}:{port} is taken or no address of this machine; name another --port") from None


if __name__ == "__main__":
    sys.exit(main())
