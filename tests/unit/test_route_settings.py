"""Routes in the configuration: one connector, or several in order of preference."""

import pytest

from aldis.model.errors import SettingsError
from aldis.service.settings import load

CONNECTORS = "".join(f'[[connector]]\nname = "{name}"\nkind = "simulator"\n' for name in ("a", "b"))


def routes(folder, lines, environ=None):
    file = folder / "aldis.toml"
    file.write_text(f"{CONNECTORS}[[route]]\n{lines}\n")
    return [route.connector for route in load(file, environ or {}).routes]


# SMPP-35
@pytest.mark.parametrize(
    ("lines", "queue"),
    [('connector = "a"', "a"), ('connectors = ["b", "a"]', "b>a"), ('connectors = ["a"]', "a")],
    ids=["one", "two", "a list of one"],
)
def test_a_route_names_its_queue(tmp_path, lines, queue):
    assert routes(tmp_path, lines) == [queue]


def test_the_environment_can_name_several(tmp_path):
    assert routes(tmp_path, "", {"ALDIS_ROUTE_0_CONNECTORS": "a, b"}) == ["a>b"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "a route leads to connector ''"),
        ('connectors = ["a", "c"]', "a route leads to connector 'c'"),
        ('connectors = ["a", "a"]', "named twice"),
        ('connector = "a"\nconnectors = ["b"]', "either connector or connectors"),
        ('connector = "a"\n[[connector]]\nname = "x>y"\nkind = "simulator"', "a name has no > in it"),
    ],
    ids=["none", "unknown", "twice", "both", "a name with the separator"],
)
def test_what_leads_nowhere_is_refused(tmp_path, lines, said):
    with pytest.raises(SettingsError) as refused:
        routes(tmp_path, lines)
    assert said in str(refused.value)


def test_the_patience_is_a_setting(tmp_path):
    file = tmp_path / "aldis.toml"
    file.write_text("[failover]\nafter_s = 2\n")
    assert load(file, {}).failover_after_s == 2.0
