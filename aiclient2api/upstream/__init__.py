"""The wire outwards: connections, proxies, clocks, and the relay of an answer."""
