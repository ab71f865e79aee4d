"""Named queries: `store/sql/*.sql`, each query under a `-- name:` line and with a sentence of its own."""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(name: str) -> dict[str, str]:
    """Return the queries of one file by their names, comments removed.

    Args:
        name: The file's name in `store/sql`, without `.sql`.
    """
    text = (files("aldis.store") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)[1:]
    return {key: _strip(sql) for key, sql in zip(pieces[::2], pieces[1::2], strict=True)}


def _strip(sql: str) -> str:
    lines = [line for line in sql.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return " ".join(line.strip() for line in lines).rstrip(";")
