"""Two nodes on the cores of one (PostgreSQL)."""

from contextlib import ExitStack

from tests.bench.bench import Bench, closed_port, measure_all
from tests.bench.children import wait_until, worker
from tests.bench.flow import CONNECTIONS, Flow
from tests.bench.notify import sample
from tests.bench.server import Server
from tests.bench.table import Figure, Section

_ROUNDS = 3
_TOTAL = 100
_WARMUP = 200


def run(bench: Bench) -> None:
    """Measure one node and two in turn; two on the same cores must not be slower."""
    section = bench.begin("Two nodes on the cores of one")
    rounds = 2 if bench.is_quick else _ROUNDS
    pairs = [(_submissions(bench, 1, n), _submissions(bench, 2, n)) for n in range(rounds)]
    _report(bench, section, f"submissions, c={_TOTAL} in all", pairs)
    flows = [(_flow(bench, 1, n), _flow(bench, 2, n)) for n in range(rounds)]
    _report(bench, section, f"whole flow, c={CONNECTIONS} in all", flows)
    section.notes.append(
        f"Nodes: the best of {rounds} rounds in turn, each in a new database; every node has its own load generator, "
        "and in the whole flow the connector has two binds, one for each node where there are two."
    )


def _report(bench: Bench, section: Section, what: str, pairs: list[tuple[Figure, Figure]]) -> None:
    one, two = (max(figures, key=lambda figure: figure.value) for figures in zip(*pairs, strict=True))
    one.what, two.what = f"{what}, one node", f"{what}, two nodes"
    two.floors, two.target = [("one node", one.value)], one.value
    bench.add(section, one)
    bench.add(section, two)


def _submissions(bench: Bench, nodes: int, n: int) -> Figure:
    installation = bench.installation(f"nodes-{nodes}-{n}", closed_port())
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(installation, name=f"node {i}")) for i in range(nodes)]
        loads = [stack.enter_context(worker("http_load")) for _ in servers]
        _wait_for(servers)
        job = {"kind": "submit", "recipients": 1, "connections": _TOTAL // nodes, "seconds": bench.seconds}
        got = measure_all(loads, servers, job)
    return Figure("", got["rate"], got["p50_ms"], got["p99_ms"], got["server_us"], got["database_us"])


def _flow(bench: Bench, nodes: int, n: int) -> Figure:
    with ExitStack() as stack:
        flow = Flow(bench, stack, f"flow-{nodes}-{n}", nodes=nodes, binds=2)
        _wait_for(flow.servers, binds=2)
        flow.send(_WARMUP)
        count = bench.flow_messages // 2
        spent, cpu = flow.measure(count)
        flow.check(count)
    return Figure("", count / spent, cpu_us=cpu["server"], database_us=cpu["PostgreSQL"])


def _wait_for(servers: list[Server], binds: int = 0) -> None:
    """Wait until every node knows of the others, and owns its share of the binds."""
    for server in servers:
        wait_until(
            "the nodes", lambda server=server: sample(server, "aldis_nodes_living") == len(servers), 20.0, step_s=0.1
        )
        wait_until(
            "its binds",
            lambda server=server: sample(server, "aldis_binds_owned") >= binds // len(servers),
            30.0,
            step_s=0.1,
        )
