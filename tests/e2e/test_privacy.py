"""A server that runs on its own: it speaks to nobody and leaves nothing outside its data folder."""

from ipaddress import ip_address


def test_nothing_is_left_in_the_users_home(server):
    server.embed(["the engine is loaded by now"])
    expected = {"data", server.out.name, server.err.name}
    assert {path.name for path in server.folder.iterdir()} == expected


def test_no_process_speaks_to_another_machine(server):
    server.embed(["the engine is loaded by now"])
    reached = {
        connection.raddr.ip
        for process in server.members()
        for connection in process.net_connections(kind="inet")
        if connection.raddr
    }
    assert all(ip_address(address).is_loopback for address in reached), reached
