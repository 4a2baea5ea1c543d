"""Real servers from wheels (PostgreSQL, Valkey, SeaweedFS, an email inbox) behind `make run` and `make test`.

`servers.py` starts one server, `stack.py` starts those that the environment does not name, `running.py` is `make run`,
`__main__.py` holds the commands. None of this is in the image.
"""
