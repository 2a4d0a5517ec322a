"""What forwarding a request costs: the whole product against nginx ``proxy_pass`` and Caddy, in one run.

The origin is an nginx that returns a kilobyte. All proxies get the same browser-like requests to an ordinary page, so
Waitroom reads the path in every way, decides that no room covers it, and forwards.
"""

from __future__ import annotations

import tempfile

from peers import Servers, arguments, compare

HEADERS = {
    "Host": "shop.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "ko,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=light",
    "Sec-Fetch-Mode": "navigate",
}
TARGET = "/products/42?color=blue"
ORIGIN = 'default_type text/html; location / { add_header Set-Cookie "a=b; Path=/"; return 200 "%s"; }'
PROXY = (
    "location / { proxy_pass http://origin; proxy_http_version 1.1; "
    'proxy_set_header Connection ""; proxy_set_header Host $http_host; }'
)


def main() -> None:
    """Run the rounds and print a table."""
    options = arguments(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
        origin = servers.nginx("origin", ORIGIN % ("x" * 1024))
        proxies = [
            servers.nginx("nginx proxy_pass", PROXY, origin.port),
            servers.caddy("Caddy reverse_proxy", origin.port),
            servers.waitroom("waitroom", origin.port),
        ]
        compare("forward", dict.fromkeys(proxies, (TARGET, HEADERS)), options)


if __name__ == "__main__":
    main()
