import socket

import pytest

from study.system.addresses import let_in, origins, own_hosts

OWN = ["10.0.0.1:5000", "203.0.113.7:5000", "server:5000"]


@pytest.mark.parametrize(
    ("allowed", "hosts"),
    [
        ("", ["10.0.0.1:5000"]),
        ("server.example:5000, localhost:5000", ["server.example:5000", "localhost:5000"]),
        ("10.*,server.example", ["server.example", "10.0.0.1:5000"]),
        ("server:5000,*", ["server:5000", "10.0.0.1:5000", "203.0.113.7:5000"]),
        ("*.example:5000", []),
    ],
)
def test_others_are_let_in_by_names_that_are_given_and_by_own_ones_that_match(allowed: str, hosts: list[str]) -> None:
    assert let_in(allowed, OWN) == hosts


def test_every_interface_has_the_name_of_the_machine_and_no_address_of_its_own_alone() -> None:
    own = own_hosts("0.0.0.0", 5000)
    assert f"{socket.gethostname()}:5000" in own
    assert not [host for host in own if host.startswith("127.")]
    assert own_hosts("10.0.0.1", 5000) == ["10.0.0.1:5000"]


def test_origins_are_those_of_the_port_and_of_a_proxy_with_tls() -> None:
    assert origins(["server.example:5000", "[fd00::1]:5000"]) == [
        "http://server.example:5000",
        "https://server.example:5000",
        "http://[fd00::1]:5000",
        "https://[fd00::1]:5000",
        "https://server.example",
        "https://[fd00::1]",
    ]
    assert origins(["server.example"]) == ["http://server.example", "https://server.example"]
    assert origins([]) == []
