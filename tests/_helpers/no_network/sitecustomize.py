"""Found by every Python that the tests start: connections leave this machine only by being refused."""

import ipaddress
import socket


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):  # a socket of this machine's file system
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost", socket.gethostname())


def _refusing(method):
    def connect(self, address, *args):
        if not _is_local(address):
            raise PermissionError(f"Tests use no network; something wants to connect to {address}.")
        return method(self, address, *args)

    return connect


def _resolve(host, *args, _original=socket.getaddrinfo, **options):
    if host is not None and not _is_local((host if isinstance(host, str) else host.decode(),)):
        raise PermissionError(f"Tests use no network; something wants to know the address of {host}.")
    return _original(host, *args, **options)


for _name in ("connect", "connect_ex"):
    setattr(socket.socket, _name, _refusing(getattr(socket.socket, _name)))
socket.getaddrinfo = _resolve
