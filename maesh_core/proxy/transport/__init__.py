"""How this proxy reaches servers on other nodes, and what it answers when their proxies ask for its own servers."""
